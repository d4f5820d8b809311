"""How a model version is named in text: `digits`, `digits@3`, `digits@sha256:…`, `digits@prod`."""

import msgspec

from stoker.types.ids import Digest, ModelName, is_digest, is_name


class ModelRef(msgspec.Struct, frozen=True):
    """A parsed reference. At most one of number, digest and alias is set; none means the newest version."""

    name: ModelName
    number: int = 0
    digest: Digest | None = None
    alias: str = ""

    @property
    def is_newest(self) -> bool:
        """Whether the text named no version."""
        return not self.number and self.digest is None and not self.alias


def is_alias(text: str) -> bool:
    """Return whether `text` can be an alias: a name that is not a number."""
    return is_name(text) and not text.isdigit()


def parse_ref(text: str) -> ModelRef:
    """Return what `text` names. Raises ValueError that says what was expected."""
    name, at, which = text.partition("@")
    if not is_name(name):
        raise ValueError(f"{text!r} does not start with a model's name: lower-case letters, digits and dashes")
    if not at:
        return ModelRef(name=ModelName(name))
    return parse_version(ModelName(name), which)


def parse_version(name: ModelName, which: str) -> ModelRef:
    """Return the reference to version `which` (number, digest or alias) of `name`. Raises ValueError."""
    if which.isascii() and which.isdigit() and 0 < len(which) <= 9 and int(which) > 0:
        return ModelRef(name=name, number=int(which))
    if is_digest(which):
        return ModelRef(name=name, digest=Digest(which))
    if is_alias(which):
        return ModelRef(name=name, alias=which)
    raise ValueError(f"{which!r} is no version of {name}; write a number, sha256:<64 hex digits> or an alias")
