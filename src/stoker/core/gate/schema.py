"""Whether clients of one signature can go on with another. Pure.

What a client sends must be taken as it is: replicas check names, datatypes and shapes (protocol/oip_request.py). What
it reads must be there, of the same kind and no narrower; more outputs hurt nobody.
"""

from collections.abc import Iterable
from typing import Final

from stoker.types.models import Signature, TensorSpec, VersionManifest

# Within one of these a value of an earlier datatype fits into every later one.
_WIDENING: Final = (
    ("INT8", "INT16", "INT32", "INT64"),
    ("UINT8", "UINT16", "UINT32", "UINT64"),
    ("FP16", "FP32", "FP64"),
)
_WIDTH: Final = "dimensions"  # of vectors, in what was read from a model


def breaches(old: VersionManifest, new: VersionManifest, task: str, new_task: str) -> tuple[str, ...]:
    """Return what clients of `old` cannot do any more with `new`, a sentence each naming the tensor; () for nothing.

    A version whose signature nobody knows breaks nothing that anybody could tell.
    """
    if task != new_task:
        return (f"it serves {new_task}, and the one that serves now {task}: clients speak another protocol to it",)
    if task == "predict":  # the other protocols have no tensors
        return (*_inputs(old.signature, new.signature), *_outputs(old.signature, new.signature))
    return tuple(_vectors(old, new)) if task == "embed" else ()


def _inputs(old: Signature, new: Signature) -> Iterable[str]:
    if not old.inputs or not new.inputs:
        return
    known = {each.name: each for each in old.inputs}
    taken = {each.name for each in new.inputs}
    missing = [each for each in old.inputs if each.name not in taken]
    added = [each for each in new.inputs if each.name not in known]
    if len(missing) == len(added) == 1 and missing[0].datatype == added[0].datatype:
        yield f"input {missing[0].name!r} is called {added[0].name!r} now; clients send {missing[0].name!r}"
    else:
        for each in missing:
            yield f"input {each.name!r} is not taken any more; clients send it"
        for each in added:
            yield f"input {each.name!r} is new and needed; clients do not send it"
    for each in new.inputs:
        if each.name in known:
            yield from _one_input(known[each.name], each)


def _one_input(old: TensorSpec, new: TensorSpec) -> Iterable[str]:
    if old.datatype != new.datatype:
        yield f"input {old.name!r} takes {new.datatype}, not {old.datatype}; clients send {old.datatype}"
    if len(old.shape) != len(new.shape):
        yield f"input {old.name!r} has the shape {list(new.shape)}, not {list(old.shape)}"
    else:
        for at, (before, after) in enumerate(zip(old.shape, new.shape, strict=True)):
            if after not in (-1, before):
                sent = "any size" if before == -1 else str(before)
                yield f"input {old.name!r} takes {after} in dimension {at}, where clients send {sent}"


def _outputs(old: Signature, new: Signature) -> Iterable[str]:
    if not old.outputs or not new.outputs:
        return
    given = {each.name: each for each in new.outputs}
    for each in old.outputs:
        found = given.get(each.name)
        if found is None:
            yield f"output {each.name!r} is not there any more; clients read it"
            continue
        if not _fits(each.datatype, found.datatype):
            yield f"output {each.name!r} is {found.datatype}, not {each.datatype}"
        if len(each.shape) != len(found.shape):
            yield f"output {each.name!r} has the shape {list(found.shape)}, not {list(each.shape)}"
        else:
            for at, (before, after) in enumerate(zip(each.shape, found.shape, strict=True)):
                if before not in (-1, after):
                    size = "any size" if after == -1 else str(after)
                    yield f"output {each.name!r} has {size} in dimension {at}, where clients read {before}"


def _fits(old: str, new: str) -> bool:
    """Return whether every value of a datatype that clients know goes into what they read now, and is of its kind."""
    return old == new or any(old in row and new in row and row.index(old) < row.index(new) for row in _WIDENING)


def _vectors(old: VersionManifest, new: VersionManifest) -> Iterable[str]:
    before, after = old.metadata.get(_WIDTH), new.metadata.get(_WIDTH)
    if before and after and before != after:
        yield f"its vectors have {after} values, not {before}; what was embedded before cannot be compared with them"
