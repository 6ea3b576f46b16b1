"""A spec of the shape that RHEL's glibc has, for the tree tests/tiny_glibc.

Packages as RHEL 9 splits them, ``%bcond``, Lua that writes the langpacks, virtual Provides, langpacks that
are alternatives of each other, headers in a package of their own. Written for these tests.
"""

from __future__ import annotations

LANGUAGES = ("de", "en")
PLAIN = (
    "common",
    "devel",
    "headers",
    "static",
    "nscd",
    "gconv-extra",
    "locale-source",
    "all-langpacks",
    "doc",
    "benchtests",
)
#: what the spec makes for the architecture it is built for
PACKAGES = frozenset(
    {
        "glibc",
        "glibc-minimal-langpack",
        "nss_db",
        *(f"glibc-{n}" for n in PLAIN),
        *(f"glibc-langpack-{n}" for n in LANGUAGES),
    }
)

SPEC = """\
%define glibcversion 2.36
%define glibcrelease 7%{?dist}
%bcond_without documentation
%bcond_without benchtests
%bcond_with systemtap
%global debug_package %{nil}
%global __os_install_post %{nil}
%global languages de en
%global lib %{_prefix}/lib64
Summary: The GNU libc libraries
Name: glibc
Version: %{glibcversion}
Release: %{glibcrelease}
License: LGPLv2+
URL: http://www.gnu.org/software/glibc/
Source0: %{?glibc_release_url}glibc-%{version}.tar.xz
Source1: nsswitch.conf
Patch1: glibc-rhel-withdraw.patch
Patch2: glibc-rhel-first.patch
BuildRequires: gcc >= 7.2.1-6, make >= 4
%if %{with systemtap}
BuildRequires: a-systemtap-that-is-nowhere
%endif
Provides: rtld(GNU_HASH)
Requires: glibc-common = %{version}-%{release}
Requires: glibc-langpack = %{version}-%{release}
Suggests: glibc-minimal-langpack = %{version}-%{release}

%description
The C library.

%package common
Summary: Common binaries
Requires: glibc = %{version}-%{release}
%description common
Common binaries.

%package devel
Summary: Object files for development
Requires: glibc%{?_isa} = %{version}-%{release}
Requires: glibc-headers = %{version}-%{release}
Provides: glibc-headers-of(%{_target_cpu})
%description devel
Object files.

%package headers
Summary: Header files
Provides: glibc-headers(%{_target_cpu})
%description headers
Header files.

%package static
Summary: Static libraries
Requires: glibc-devel = %{version}-%{release}
Provides: glibc-static-pie = %{version}-%{release}
%description static
Archives.

%package nscd
Summary: A cache
%description nscd
A cache.

%package gconv-extra
Summary: Converters
Requires: glibc%{?_isa} = %{version}-%{release}
%description gconv-extra
Converters.

%package -n nss_db
Summary: Name service from hashed files
Requires: glibc%{?_isa} = %{version}-%{release}
%description -n nss_db
A module of the name service.

%package locale-source
Summary: Sources of locales
%description locale-source
Sources.

%package minimal-langpack
Summary: C.UTF-8 alone
Provides: glibc-langpack = %{version}-%{release}
Requires: glibc-common = %{version}-%{release}
%description minimal-langpack
Nothing beyond.

%package all-langpacks
Summary: All languages
Provides: glibc-langpack = %{version}-%{release}
Requires: glibc-common = %{version}-%{release}
%description all-langpacks
All.

%if %{with benchtests}
%package benchtests
Summary: Benchmarks
%description benchtests
Benchmarks.
%endif

%if %{with documentation}
%package doc
Summary: Documentation
BuildArch: noarch
%description doc
Text.
%endif

%{lua:
for word in string.gmatch(rpm.expand("%{languages}"), "%a+") do
  print("%package langpack-" .. word .. "\\n")
  print("Summary: Locale data for " .. word .. "\\n")
  print("Provides: glibc-langpack = " .. rpm.expand("%{version}-%{release}") .. "\\n")
  print("Requires: glibc-common = " .. rpm.expand("%{version}-%{release}") .. "\\n")
  print("%description langpack-" .. word .. "\\nLocale data.\\n")
  print("%files langpack-" .. word .. "\\n/usr/lib/locale/" .. word .. "\\n")
end}

%prep
%autosetup -n glibc-%{version} -p1
# scripts must be executable
chmod +x scripts/ldd

%build
mkdir build && cd build
../configure --build=%{_target_cpu}-linux-gnu --host=%{_target_cpu}-linux-gnu --prefix=/usr \\
    --with-headers=/opt/kernel-headers/%{_target_cpu} CC=gcc CFLAGS="-g -O2"
make
echo 'int _nss_db_setpwent (int stay) { return stay; }' | gcc -g -O2 -fPIC -shared -nostdlib -xc - \\
    -Wl,-soname,libnss_db.so.2 -o libnss_db.so.2

%install
cd build
make install install_root=%{buildroot}
install -m 755 libnss_db.so.2 %{buildroot}/lib64
cd %{buildroot}
mkdir -p etc usr/share/doc/glibc usr/share/i18n usr/sbin usr/libexec/glibc-benchtests
install -m 644 %{SOURCE1} etc/nsswitch.conf
for word in %{languages} all; do
    mkdir -p usr/lib/locale/$word; echo $word > usr/lib/locale/$word/LC_TIME
done
echo text > usr/share/doc/glibc/manual; echo locale > usr/share/i18n/source; echo nscd > usr/sbin/nscd
echo bench > usr/libexec/glibc-benchtests/bench-math
cd -
( cd %{buildroot} && find . \\( -type f -o -type l \\) | sed 's,^\\.,,' | LC_ALL=C sort ) > files.all
grep -v -e '^/usr/lib/locale/' -e '^/usr/share/doc/' -e '^/usr/share/i18n/' -e '^/usr/sbin/nscd' \\
    -e /libnss_db -e '^/usr/libexec/' \\
    files.all > files.rest
grep '^/usr/include/' files.rest > files.headers || :
grep '\\.a$' files.rest > files.static || :
grep '/gconv/' files.rest > files.gconv || :
grep -e '/crt[1in]\\.o$' -e '/lib64/libc\\.so$' files.rest > files.devel || :
grep -e '^/usr/bin/' -e '^/usr/share/' files.rest > files.common || :
cat files.headers files.static files.gconv files.devel files.common | sort > files.others
LC_ALL=C sort files.others > files.sorted
LC_ALL=C comm -23 files.rest files.sorted > files.runtime

%check
echo its own check must not run; exit 1

%files -f build/files.runtime
%files common -f build/files.common
%files devel -f build/files.devel
%files headers -f build/files.headers
%files static -f build/files.static
%files gconv-extra -f build/files.gconv
%files nscd
/usr/sbin/nscd
%files -n nss_db
/lib64/libnss_db.so.2
%files locale-source
/usr/share/i18n/source
%files minimal-langpack
%files all-langpacks
/usr/lib/locale/all
%if %{with benchtests}
%files benchtests
/usr/libexec/glibc-benchtests/bench-math
%endif
%if %{with documentation}
%files doc
/usr/share/doc/glibc/manual
%endif
"""
