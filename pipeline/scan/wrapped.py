"""Programs that hide what they run: what is seen of the file is only the outer one.

An AppImage and a program packed with UPX are static programs that start anywhere, and unpack another one
that need not. PyInstaller's are small programs that unpack a Python with its libraries. What is inside is not
read, so such a file is never said to start.
"""

from __future__ import annotations

from contextlib import suppress

from pipeline.core.errors import MalformedInput
from pipeline.elf import Elf
from pipeline.elf.layout import sections

#: AppImage: in e_ident's padding, with the type behind it (AppImage specification).
_APPIMAGE, _APPIMAGE_TYPES = b"AI", b"\1\2"
#: UPX's l_info, behind the program headers.
_UPX, _UPX_WITHIN = b"UPX!", 1024
#: PyInstaller's archive ends with a record that begins so: behind the program, or as a section of it.
_PYINSTALLER, _RECORD = b"MEI\014\013\012\013\016", 88
_SHF_ALLOC = 2


def hidden_in(binary: Elf) -> str:
    """What a program hides, as a reason why it cannot be judged; "" if it is all there is."""
    data = binary.data
    if data[8:10] == _APPIMAGE and data[10] in _APPIMAGE_TYPES:
        return "an AppImage, whose contents are not read: scan the directory that --appimage-extract makes"
    if not binary.dynamic and not binary.section_table[2] and _UPX in data[:_UPX_WITHIN]:
        return "packed with UPX, which hides the program: scan it before it is packed, or after upx -d"
    if _ends_as_pyinstaller(binary):
        return "made by PyInstaller, whose archive is not read: scan what --onedir makes"
    return ""


def _ends_as_pyinstaller(binary: Elf) -> bool:
    ends = {len(binary.data)}
    with suppress(MalformedInput):  # ld.so reads no sections
        ends |= {s.offset + s.size for s in sections(binary) if not s.flags & _SHF_ALLOC}
    return any(binary.data[e - _RECORD : e - _RECORD + 8] == _PYINSTALLER for e in ends if e >= _RECORD)
