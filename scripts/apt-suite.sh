#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Packages of any Debian suite, from this machine's mirror, without root and without touching apt's
# state: to be sourced by the scripts that fetch. apt checks the signatures.
#
# Who sources it sets `says` (the word that messages begin with) and, before anything is fetched,
# `work` (a directory to keep apt's state in).

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

die() {
	local status=$1
	shift
	printf '%s: %s\n' "${says:?}" "$*" >&2
	exit "$status"
}

# Of all the addresses in this machine's apt sources, the first of an archive.
mirror_of() {
	local -a sources
	mapfile -t sources < <(find /etc/apt/sources.list /etc/apt/sources.list.d -type f 2>/dev/null)
	sed -nE 's/[[:space:]]*#.*//; s,.*((https?|file):/[^] ]*/'"$1"')/?([] ].*)?$,\1,p' \
		/dev/null "${sources[@]}" | sed 1q
}

# Ends with 3 where this machine lacks what fetching needs.
need_apt() { # ARCHIVE...
	local name
	for name in apt-get apt-cache dpkg-deb flock xz; do
		command -v "$name" >/dev/null || die 3 "no $name: run scripts/setup vm"
	done
	[[ -r $keyring ]] || die 3 "no $keyring"
	[[ $(uname -m) == x86_64 ]] || die 3 "only the packages of amd64 are known"
	for name; do
		[[ -n $(mirror_of "$name") ]] || die 3 "no mirror of $name in this machine's apt sources"
	done
}

# Runs an apt tool that knows one suite alone and keeps its state in $work.
apt() { # SUITE ARCHIVE TOOL ARG...
	local dir=${work:?}/apt/$1
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	echo "deb [signed-by=$keyring] $(mirror_of "$2") $1 main" >"$dir/sources.list"
	# A file and not -o options: those come too late for some of apt's own settings.
	cat >"$dir/apt.conf" <<-CONF
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "$dir/lists";
		Dir::Cache "$dir/cache";
		Acquire::Languages "none";
		Acquire::Retries "3";
		APT::Sandbox::User "root";
	CONF
	APT_CONFIG=$dir/apt.conf "${@:3}"
}

# Downloads packages into a directory.
download() { # SUITE ARCHIVE DIRECTORY PACKAGE...
	mkdir -p "$3"
	(cd "$3" && apt "$1" "$2" apt-get -qq download "${@:4}" >"$work/log" 2>&1) ||
		die 1 "cannot download ${*:4} from $1: $(tail -n 1 "$work/log")"
}

update() { # SUITE ARCHIVE
	# The log: hooks in this machine's apt configuration may complain that they are not root.
	apt "$1" "$2" apt-get -qq update >"$work/log" 2>&1 ||
		die 1 "cannot get the list of packages of $1: $(tail -n 1 "$work/log")"
}
