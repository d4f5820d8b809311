"""Where every table of state.db is registered: those of schema.py, and those that have a page of their own."""

from typing import Final

from sqlalchemy import MetaData

registered: Final = MetaData()
