"""Names of months as ``ls`` writes them in the languages of its users. Pure data.

Where two languages use one word for two months, the more spoken one has it (``lis`` is November in Polish and Czech,
October in Croatian).
"""

from __future__ import annotations

_LANGUAGES = (
    "jan feb mar apr may jun jul aug sep oct nov dec",  # English
    "january february march april may june july august september october november december",
    "jan feb mär apr mai jun jul aug sep okt nov dez",  # German
    "jän feb mrz apr mai jun jul aug sept okt nov dez",
    "janv févr mars avr mai juin juil août sept oct nov déc",  # French
    "jan fév mar avr mai jui jul aoû sep oct nov déc",
    "jan fev mar avr mai juin juil aout sept oct nov dec",
    "ene feb mar abr may jun jul ago sep oct nov dic",  # Spanish
    "gen feb mar apr mag giu lug ago set ott nov dic",  # Italian
    "jan fev mar abr mai jun jul ago set out nov dez",  # Portuguese
    "jan feb mrt apr mei jun jul aug sep okt nov dec",  # Dutch
    "jan feb maa apr mei jun jul aug sep okt nov dec",
    "jan feb mar apr maj jun jul aug sep okt nov dec",  # Swedish, Danish
    "jan feb mars april mai juni juli aug sep okt nov des",  # Norwegian, Icelandic in part
    "jan feb mar apr maí jún júl ágú sep okt nóv des",
    "tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu",  # Finnish
    "tam hel maa huh tou kes hei elo syy lok mar jou",
    "jaan veebr märts apr mai juuni juuli aug sept okt nov dets",  # Estonian
    "sty lut mar kwi maj cze lip sie wrz paź lis gru",  # Polish
    "led úno bře dub kvě čen čec srp zář říj lis pro",  # Czech
    "jan feb mar apr máj jún júl aug sep okt nov dec",  # Slovak
    "jan febr márc ápr máj jún júl aug szept okt nov dec",  # Hungarian
    "sij velj ožu tra svi lip srp kol ruj lis stu pro",  # Croatian
    "ian feb mar apr mai iun iul aug sep oct noi dec",  # Romanian
    "oca şub mar nis may haz tem ağu eyl eki kas ara",  # Turkish
    "янв фев мар апр май июн июл авг сен окт ноя дек",  # Russian
    "янв фев мар апр мая июн июл авг сен окт ноя дек",
    "січ лют бер кві тра чер лип сер вер жов лис гру",  # Ukrainian
    "яну фев мар апр май юни юли авг сеп окт ное дек",  # Bulgarian
    "ιαν φεβ μαρ απρ μαΐ ιουν ιουλ αυγ σεπ οκτ νοε δεκ",  # Greek
    "gen feb mar abr mai jun jul ago set oct nov des",  # Catalan
    "urt ots mar api mai eka uzt abu ira urr aza abe",  # Basque
)


def _table() -> dict[str, int]:
    table: dict[str, int] = {}
    for language in _LANGUAGES:
        for number, name in enumerate(language.split(), 1):
            table.setdefault(name, number)
    # Chinese, Japanese and Korean count
    for number in range(1, 13):
        table[f"{number}月"] = table[f"{number}월"] = number
    return table


_MONTHS = _table()


def month_of(word: str) -> int | None:
    """1 to 12, or None; any case, with or without a full stop, also in Latin-1 bytes that are no UTF-8."""
    key = word.lower().rstrip(".")
    found = _MONTHS.get(key)
    if found is None and not word.isascii():
        try:
            raw = word.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return None
        for charset in ("latin-1", "iso-8859-2", "cp1251", "koi8-r"):
            found = found or _MONTHS.get(raw.decode(charset, "replace").lower().rstrip("."))
    return found
