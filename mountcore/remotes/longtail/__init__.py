"""The long tail of storage, through OpenDAL: one adapter, whose capabilities are what OpenDAL reports of a service.

`facts` says which types there are and how their options are called (all that is imported early), `options` makes
OpenDAL's configuration of them, `remote` is the port on top.
"""
