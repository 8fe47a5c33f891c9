"""Names of files as all systems understand them: what means something to one, and what is alike.

A name that comes from a service may be written anywhere: into a folder that Windows shares, on a
disk that tells no case, beside files that a shell reads by their names.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

#: Most file systems allow names of so many bytes.
MAX_NAME_BYTES = 255

#: Characters that no file of Windows can have in its name; separators are told apart elsewhere.
RESERVED = '<>:"|?*\\'

_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"}
    | {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
)
_ODD = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]|^[.\-\s]|[.\s]$')


def is_device(name: str) -> bool:
    """Whether a name is that of a device on Windows, where a suffix does not count.

    Examples
    --------
    >>> is_device("nul.tar.gz"), is_device("CON"), is_device("console")
    (True, True, False)
    """
    return name.partition(".")[0].rstrip().upper() in _DEVICES


def alike(name: str) -> str:
    r"""Return what is equal for names that some file system takes for one: by case or by form.

    Examples
    --------
    >>> alike("STRASSE.nc") == alike("Straße.nc"), alike("e\u0301") == alike("É")
    (True, True)
    """
    folded = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", folded)


def is_composed(name: str) -> bool:
    """Whether a name is in the composed form, as nearly all are (NFC)."""
    return unicodedata.is_normalized("NFC", name)


def is_plain(name: str) -> bool:
    """Whether a name means nothing but itself on any system, and is not too long for one."""
    return not (
        _ODD.search(name)
        or is_device(name)
        or not is_composed(name)
        or any(unicodedata.category(char)[0] == "C" for char in name)
        or len(name.encode(errors="replace")) > MAX_NAME_BYTES
    )


def plain_name(name: str) -> str:
    """Return a name that is plain: the same if it is, else one with a hash of it.

    Examples
    --------
    >>> plain_name("a.nc"), plain_name("NUL.nc")
    ('a.nc', 'member-NUL.nc-e604f437')
    """
    if is_plain(name):
        return name
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    kept = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    kept = unicodedata.normalize("NFC", kept).encode(errors="ignore")[:100].decode(errors="ignore")
    if is_device(kept) or not is_plain(f"{kept}-{digest}"):
        kept = f"member-{kept.strip('.-_')}"
    return f"{kept}-{digest}"
