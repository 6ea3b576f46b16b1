"""apt.conf of a private apt: every directory elsewhere, and none of the host's hooks."""

from __future__ import annotations

from pathlib import Path

from pipeline.debian.apt_sources import base_of


def apt_conf(root: Path, deb_arch: str, suite: str) -> str:
    """The text for an apt whose directories are below ``root``.

    It is read after the host's configuration, whose proxies, passwords and options hold.
    """
    settings = {
        "APT::Architecture": deb_arch,
        "APT::Architectures::": deb_arch,
        "APT::Sandbox::User": "root",  # the state directory is private to its user
        "APT::Get::List-Cleanup": "true",
        "Acquire::Languages": "none",
        "Dir::State::lists": f"{root}/lists/",
        "Dir::State::status": f"{root}/status",
        "Dir::State::extended_states": f"{root}/extended_states",
        "Dir::Cache": f"{root}/",
        "Dir::Cache::archives": f"{root}/archives/",
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
        "Dir::Etc::sourcelist": f"{root}/etc/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
    }
    if suite not in (base_of(suite), f"{base_of(suite)}-updates"):
        settings["APT::Default-Release"] = suite  # backports are never taken unasked
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
    cleared = (*hooks, "APT::Architectures", "APT::Default-Release", "Acquire::Languages", "Dir::Cache")
    text = [f"#clear {name};" for name in cleared]
    text += [f'{name} "{value}";' for name, value in settings.items()]
    return "\n".join(text) + "\n"
