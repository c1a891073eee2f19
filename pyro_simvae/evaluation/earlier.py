"""An evaluation put beside what an earlier one of the same weights has found."""

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(path: Path) -> str:
    """Of the file that the evaluated weights were read from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def with_earlier(path: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The evaluation, and what the file holds besides; the evaluation alone where that is of other weights.

    Args:
        path: evaluation.json, which may not exist yet.
        evaluation: with the digest of its weights.
    """
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return evaluation
    return _joined(earlier, evaluation) if earlier.get("digest") == evaluation["digest"] else evaluation


def _joined(earlier: Any, now: Any) -> Any:
    """Dictionaries entry by entry, the entries of lists of names once each, and of all else what is found now."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        return earlier | {key: _joined(earlier.get(key), value) for key, value in now.items()}
    if isinstance(earlier, list) and isinstance(now, list) and all(isinstance(each, str) for each in (*earlier, *now)):
        return list(dict.fromkeys([*earlier, *now]))
    return now
