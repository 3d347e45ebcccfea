"""Storage types behind one port (`protocol`), and the way from a user's words to one of them (`registry`)."""
