"""What every module of this room may ask for."""

from tests.gateway.beside import together

__all__ = ["together"]
