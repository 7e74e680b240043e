"""Texts as tokens, for language models."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.memory import check_memory
from cnet_aihw.runtime.parts import TensorPart
from cnet_aihw.runtime.typed import checked
from cnet_aihw.runtime.values import check_count
from cnet_aihw.zoo.dataset import Dataset

_BYTES = 256


@checked
def text(
    path: str | Path,
    context: int = 128,
    tokens: str = "byte",
    val_share: float = 0.05,
    test_share: float = 0.05,
    stride: int | None = None,
) -> Dataset:
    """A data set of sequences of tokens and the tokens that follow them.

    The text is cut once: the training part at its beginning, then the validation part, then the
    test part. Sequences of validation and test part do not overlap, and what is left behind the
    last whole one is not used.

    Args:
        path: the file.
        context: tokens of a sequence.
        tokens: "byte" (256 tokens, any file), or the path of a ``tokenizer.json`` of Hugging Face's
            tokenizers, for text in UTF-8: all of its tokens, and none that mark ends.
        val_share: share of the tokens in the validation part.
        test_share: share of the tokens in the test part.
        stride: tokens between the beginnings of training sequences; None: ``context``, without
            overlap.

    Returns:
        The data set, inputs and targets [N, context] int64, ``classes`` the size of the vocabulary.

    Raises:
        CnetError: the file is absent, empty or too short.
    """
    path = Path(path)
    stride = context if stride is None else stride
    check_count("context", context)
    check_count("stride", stride)
    for key, share in (("val_share", val_share), ("test_share", test_share)):
        if not 0.0 < share < 0.5:
            raise bad_value(key, share, "a share between 0 and 0.5")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CnetError(
            f"the text {path} cannot be read ({error.strerror}): give the path of a file.",
            key="path",
            value=str(path),
            expected="the path of a file",
        ) from error
    if not content:
        raise CnetError(
            f"the text {path} is empty: give a file with text in it.",
            key="path",
            value=str(path),
            expected="a file with text in it",
        )
    numbers, vocabulary = _numbers(path, content, tokens)
    ends = [round(len(numbers) * share) for share in (1 - val_share - test_share, 1 - test_share)]
    cut = numbers.tensor_split(ends)
    for part in cut:
        if len(part) <= context:
            raise CnetError(
                f"{path} has {len(numbers)} tokens, of which a part has {len(part)}: too few for a "
                f"sequence of {context} and the token behind it; give a longer text or a smaller "
                "context.",
                key="context",
                value=context,
                expected=f"at most {len(part) - 1}",
                fix="give a longer text or a smaller context",
            )
    check_memory(2 * 8 * len(numbers) * context // stride, f"the sequences of {path}")
    parts = [
        _sequences(cut[0], context, stride),
        *(_sequences(c, context, context) for c in cut[1:]),
    ]
    digest = hashlib.sha256(f"{context} {stride} {ends} {vocabulary}".encode())
    digest.update(numbers.numpy().data)
    return Dataset(
        name=path.stem,
        train=parts[0],
        val=parts[1],
        test=parts[2],
        classes=vocabulary,
        input_shape=(context,),
        augment=None,
        fingerprint=digest.hexdigest(),
    )


def _numbers(path: Path, content: bytes, tokens: str) -> tuple[Tensor, int]:
    """Return the tokens [N] of a text, int64, and the size of the vocabulary."""
    if tokens == "byte":
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).long(), _BYTES
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise CnetError(
            f"tokens={tokens} needs the package tokenizers: pip install tokenizers, or choose "
            "tokens=byte.",
            key="tokens",
            value=tokens,
            fix="pip install tokenizers, or choose tokens=byte",
        ) from error
    try:
        tokenizer = Tokenizer.from_file(tokens)
        tokenizer.no_truncation()  # some files hold the length of their network's inputs
        tokenizer.no_padding()
        found = tokenizer.encode(content.decode("utf-8-sig"), add_special_tokens=False).ids
        vocabulary = 1 + max(tokenizer.get_vocab().values())  # numbers may have gaps
    except Exception as error:  # its reader and a text of another encoding fail in any way
        raise CnetError(
            f"{path} cannot be cut into tokens by {tokens} ({error}): give byte, or the path of a "
            "tokenizer.json and a text in UTF-8.",
            key="tokens",
            value=tokens,
            expected="byte or the path of a tokenizer.json",
        ) from error
    return torch.tensor(found, dtype=torch.int64), vocabulary


def _sequences(numbers: Tensor, context: int, stride: int) -> TensorPart:
    windows = numbers.unfold(0, context + 1, stride)
    return TensorPart(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())
