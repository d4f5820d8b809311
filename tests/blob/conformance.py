"""What every BlobStore must do; a test class of an adapter inherits it and offers the fixture `store`."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.blob.port import Blob, BlobStore
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, TooLarge
from stoker.types.ids import Digest

ABSENT = Digest("sha256:" + "0" * 64)


def digest_of(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


class Conformance:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30)
    @given(chunks=st.lists(st.binary(max_size=200), max_size=6))
    def test_what_is_put_comes_back_whatever_the_pieces(self, store: BlobStore, chunks: list[bytes]) -> None:
        data = b"".join(chunks)
        assert store.put(iter(chunks)) == Blob(digest_of(data), len(data))
        with store.open(digest_of(data)) as file:
            assert file.read() == data
        assert store.path(digest_of(data)).read_bytes() == data
        assert store.size(digest_of(data)) == len(data)
        assert store.has(digest_of(data))

    def test_an_expected_digest_that_holds_is_accepted(self, store: BlobStore) -> None:
        assert store.put([b"a", b"b"], expected=digest_of(b"ab")).digest == digest_of(b"ab")

    def test_bytes_that_are_not_those_of_the_digest_are_refused_and_gone(self, store: BlobStore) -> None:
        with pytest.raises(RefusedArtifact, match="not sha256:"):
            store.put([b"tampered"], expected=digest_of(b"original"))
        assert list(store.list()) == []

    def test_too_many_bytes_are_refused_and_gone(self, store: BlobStore) -> None:
        with pytest.raises(TooLarge):
            store.put([b"12345", b"67890"], limit_bytes=9)
        assert list(store.list()) == []
        assert store.put([b"123456789"], limit_bytes=9).size_bytes == 9

    def test_a_writer_left_without_commit_leaves_nothing(self, store: BlobStore) -> None:
        with store.writer() as writer:
            writer.write(b"half")
        assert list(store.list()) == []

    def test_a_source_that_breaks_leaves_nothing(self, store: BlobStore) -> None:
        def broken() -> Iterator[bytes]:
            yield b"half"
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            store.put(broken())
        assert list(store.list()) == []

    def test_the_same_bytes_twice_are_one_blob(self, store: BlobStore) -> None:
        assert store.put([b"x"]) == store.put([b"x"])
        assert [info.digest for info in store.list()] == [digest_of(b"x")]

    def test_what_is_not_there_is_not_found(self, store: BlobStore) -> None:
        assert not store.has(ABSENT)
        assert not store.touch(ABSENT)
        assert not store.delete(ABSENT)
        for call in (store.open, store.path, store.size, store.verify):
            with pytest.raises(NotFound):
                call(ABSENT)

    @pytest.mark.parametrize(
        "text",
        ["", "../../etc/passwd", "sha256:", "sha256:" + "g" * 64, "md5:" + "0" * 64, "sha256:" + "0" * 64 + "\n"],
    )
    def test_what_is_no_digest_never_becomes_a_path(self, store: BlobStore, text: str) -> None:
        for call in (store.has, store.open, store.path, store.delete, store.touch):
            with pytest.raises(InvalidInput):
                call(Digest(text))
        with pytest.raises(InvalidInput):
            store.put([b"x"], expected=Digest(text))

    def test_deleted_is_gone_and_can_come_again(self, store: BlobStore) -> None:
        blob = store.put([b"x"])
        assert store.delete(blob.digest)
        assert not store.has(blob.digest)
        assert store.put([b"x"]) == blob

    def test_a_blob_touched_since_stays_when_only_unused_ones_go(self, store: BlobStore) -> None:
        blob = store.put([b"x"])
        used_at_s = next(store.list()).used_at_s
        assert not store.delete(blob.digest, unused_since_s=used_at_s - 1)
        assert store.touch(blob.digest)
        assert store.delete(blob.digest, unused_since_s=used_at_s + 60)

    def test_two_writers_of_the_same_bytes_both_succeed(self, store: BlobStore) -> None:
        with store.writer() as first, store.writer() as second:
            first.write(b"same")
            second.write(b"same")
            assert first.commit() == second.commit()
        assert store.path(digest_of(b"same")).read_bytes() == b"same"
