#!/bin/sh
# Installs Ollama with LongRoPE in a folder of its own, without root, next to an Ollama that is
# there: it has its own port and its own models, or shares those. Needs sh, tar, gzip, sha256sum.
set -eu

usage() {
	cat <<-'USAGE'
		install.sh [--prefix DIR] [--port N] [--models DIR | --share-models] [--service]
		install.sh [--prefix DIR] --uninstall [--purge]

		  --prefix DIR     where to install (default: ~/.local/ollama-longrope)
		  --port N         port of the server (default: 11435; an official Ollama has 11434)
		  --models DIR     folder of the models (default: DIR of --prefix, then /models)
		  --share-models   the models of the official Ollama: OLLAMA_MODELS, ~/.ollama/models, or
		                   those of its service, where they can be read
		  --service        a systemd user unit, ollama-longrope, and start it
		  --settings none  neither port nor models: the defaults of Ollama, or the environment
		  --uninstall      remove all that was installed; models stay
		  --purge          with --uninstall: models too, unless they are shared, and the key that
		                   the server made in ~/.ollama if nothing else is there
	USAGE
}

say() { printf 'install: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
home=${HOME:-}
prefix='' port='' models='' share='' service='' settings='' uninstall='' purge=''
while [ $# -gt 0 ]; do
	case $1 in
	--prefix | --port | --models | --settings)
		[ $# -gt 1 ] && [ -n "$2" ] || die "$1 needs a value; see --help"
		case $1 in
		--prefix) prefix=$2 ;;
		--port) port=$2 ;;
		--models) models=$2 ;;
		--settings) settings=$2 ;;
		esac
		shift
		;;
	--share-models) share=1 ;;
	--service) service=1 ;;
	--uninstall) uninstall=1 ;;
	--purge) purge=1 ;;
	-h | --help)
		usage
		exit 0
		;;
	*) die "unknown argument $1; see --help" ;;
	esac
	shift
done

newline='
'
if [ -z "$prefix" ]; then
	[ -n "$home" ] || die "HOME is not set; give --prefix DIR"
	prefix=$home/.local/ollama-longrope
fi
# shellcheck disable=SC1003 # a backslash
case $prefix in
*"$newline"* | *'"'* | *'\'*) die "--prefix: a quote, a backslash or a line break in a path is not supported" ;;
/*) ;;
*) prefix=$(pwd)/$prefix ;;
esac
while [ "$prefix" != "${prefix%/}" ]; do prefix=${prefix%/}; done
[ -n "$prefix" ] || die "--prefix /: give a folder"
case "$port" in
'') ;;
*[!0-9]* | ??????*) die "--port $port: give a number up to 65535" ;;
*) [ "$port" -ge 1 ] && [ "$port" -le 65535 ] || die "--port $port: give a number up to 65535" ;;
esac
case "$service$prefix" in
1*"'"*) die "--service: systemd takes no path with a quote; give another --prefix" ;;
esac
[ -z "$purge" ] || [ -n "$uninstall" ] || die "--purge is for --uninstall"
[ -z "$share" ] || [ -z "$models" ] || die "--models and --share-models exclude each other"
case "$settings" in
'' | none) ;;
*) die "--settings $settings: it is none, or not given" ;;
esac
[ -z "$settings" ] || [ -z "$port$models$share" ] ||
	die "--settings none goes with neither --port nor --models nor --share-models"

own=$prefix/share/ollama-longrope
list=$own/files      # what was installed, a path below the prefix on each line
made=$own/made       # folders that were made, the outermost first
unit=${XDG_CONFIG_HOME:-$home/.config}/systemd/user/ollama-longrope.service

user_systemctl() { command -v systemctl >/dev/null 2>&1 && systemctl --user "$@" >/dev/null 2>&1; }

# remove_unit takes the unit away if it is of this installation.
remove_unit() {
	[ -f "$unit" ] && grep -qF "\"$escaped/bin/ollama\"" "$unit" || return 0
	user_systemctl disable --now ollama-longrope.service || true
	rm -f "$unit"
	rmdir -p "$(dirname "$unit")" 2>/dev/null || true
	user_systemctl daemon-reload || true
}
# systemd takes % for something of its own, and $ as it is in the path of a program.
escaped=$(printf '%s' "$prefix" | sed 's/%/%%/g')

uninstall() {
	[ -f "$list" ] || die "$prefix has no installation; --prefix names the folder of one"
	remove_unit
	kept=$(sed -n 's/^OLLAMA_MODELS=//p' "$own/env" 2>/dev/null || true)
	while IFS= read -r f; do rm -f "$prefix/$f"; done <"$list"
	rm -f "$own/env" "$own/home-was-empty.tmp"
	fresh_home=
	[ ! -e "$own/home-was-empty" ] || fresh_home=1
	rm -f "$own/home-was-empty"
	if [ -n "$purge" ]; then
		case $kept in
		"$prefix/models") rm -rf "$prefix/models" ;;
		esac
		# The files that ollama serve and run make in the home folder, if it had none.
		if [ -n "$fresh_home" ] && [ -n "$home" ] && [ -d "$home/.ollama" ]; then
			left=$(find "$home/.ollama" -mindepth 1 ! -name id_ed25519 ! -name id_ed25519.pub ! -name history)
			if [ -z "$left" ]; then
				rm -rf "$home/.ollama"
			else
				say "$home/.ollama stays: it holds more than this installation's key"
			fi
		fi
	fi
	folders=$(sort -r "$made")
	rm -f "$list" "$made"
	printf '%s\n' "$folders" | while IFS= read -r d; do
		[ -z "$d" ] || rmdir "$d" 2>/dev/null || true
	done
	[ ! -d "$kept" ] || say "the models stay in $kept"
	say "removed from $prefix"
}

if [ -n "$uninstall" ]; then
	uninstall
	exit 0
fi

# The tarballs of this machine, next to this script.
case "$(uname -s)-$(uname -m)" in
Linux-x86_64) arch=amd64 ;;
Linux-aarch64) arch=arm64 ;;
*) die "there is no release for $(uname -s) on $(uname -m); build from source" ;;
esac
base='' more=0
for f in "$here"/ollama-*-linux-"$arch".tgz; do
	[ -f "$f" ] || die "no ollama-*-linux-$arch.tgz is next to install.sh"
	[ -z "$base" ] || die "two releases are next to install.sh; keep one"
	base=$f
done
set -- "$base"
for f in "${base%.tgz}"-*.tgz; do
	[ ! -f "$f" ] || { set -- "$@" "$f"; more=$((more + 1)); }
done
[ -f "$here/SHA256SUMS" ] || die "SHA256SUMS is not next to install.sh"
for f in "$@"; do
	name=$(basename "$f")
	want=$(sed -n "s/^\([0-9a-f]\{64\}\)  $name\$/\1/p" "$here/SHA256SUMS")
	[ -n "$want" ] || die "SHA256SUMS does not name $name"
	[ "$(sha256sum <"$f" | cut -c 1-64)" = "$want" ] ||
		die "$name is damaged: its sum is not the one in SHA256SUMS; download it again"
done

# A folder for the new files on the same disk, which a failure removes.
first=$prefix
while [ ! -d "$first" ]; do
	[ ! -e "$first" ] && [ ! -L "$first" ] || die "$first is a file; give another --prefix"
	first=$(dirname "$first")
done
stage='' new=''
clean() {
	[ -z "$stage" ] || rm -rf "$stage"
	[ -z "$new" ] || printf '%s\n' "$new" | sort -r | while IFS= read -r d; do rmdir "$d" 2>/dev/null || true; done
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
d=$prefix
while [ "$d" != "$first" ]; do
	new="$d${new:+$newline$new}"
	d=$(dirname "$d")
done
mkdir -p "$prefix" 2>/dev/null || die "cannot make $prefix; give a --prefix that you may write to"
stage=$(mktemp -d "$prefix/.install-XXXXXX" 2>/dev/null) ||
	die "cannot write to $prefix; give a --prefix that you may write to"
for f in "$@"; do
	tar -xzf "$f" -C "$stage" --no-same-owner ||
		die "cannot unpack $(basename "$f") in $prefix: is the disk full? Nothing was changed"
done
files=$(cd "$stage" && find . ! -type d | sed 's,^\./,,' | sort)

# A file of somebody else is not touched.
if [ ! -f "$list" ]; then
	printf '%s\n' "$files" | while IFS= read -r f; do
		[ ! -e "$prefix/$f" ] && [ ! -L "$prefix/$f" ] || {
			say "$prefix/$f is there and is not of an installation by this script; give another --prefix"
			exit 1
		}
	done
fi

upgrade=
[ ! -f "$list" ] || upgrade=1
old=$(cat "$list" 2>/dev/null || true)
{
	[ -z "$upgrade" ] || cat "$made"
	printf '%s\n' "$new"
	(cd "$stage" && find . -mindepth 1 -type d) | sed 's,^\./,,' | sort | while IFS= read -r d; do
		[ -d "$prefix/$d" ] || printf '%s\n' "$prefix/$d"
	done
} | sed '/^$/d' | sort -u >"$stage/.made"
(cd "$stage" && find . -mindepth 1 -type d) | while IFS= read -r d; do mkdir -p "$prefix/$d"; done
new= # from here on files are in place
mv -f "$stage/.made" "$made"
# The list first, with old and new names: a kill between two files leaves what --uninstall removes.
printf '%s\n%s\n' "$old" "$files" | sed '/^$/d' | sort -u >"$stage/.files"
mv -f "$stage/.files" "$list"
printf '%s\n' "$files" | while IFS= read -r f; do mv -f "$stage/$f" "$prefix/$f"; done
printf '%s\n' "$old" | while IFS= read -r f; do
	case "$newline$files$newline" in
	*"$newline$f$newline"*) ;;
	*) [ -z "$f" ] || rm -f "$prefix/$f" ;;
	esac
done
printf '%s\n' "$files" >"$stage/.files"
mv -f "$stage/.files" "$list"

# Settings: those of an older installation stay unless others are given.
setting() { sed -n "s/^$1=//p" "$own/env" 2>/dev/null || true; }
if [ -n "$settings" ]; then
	rm -f "$own/env"
else
	if [ -n "$share" ]; then
		for d in "${OLLAMA_MODELS:-}" "$home/.ollama/models" /usr/share/ollama/.ollama/models; do
			[ -n "$d" ] && [ -d "$d/manifests" ] && [ -r "$d/manifests" ] && [ -r "$d/blobs" ] || continue
			models=$d
			break
		done
		[ -n "$models" ] || {
			say "no models of an Ollama that can be read: not in OLLAMA_MODELS, ~/.ollama/models or /usr/share/ollama/.ollama/models"
			models=$prefix/models
		}
		[ -w "$models/manifests" ] || [ ! -d "$models" ] ||
			say "note: $models can be read and not written: run its models; pull and convert need a store of your own (--models DIR)"
	fi
	case $models in
	*"$newline"*) die "--models: a line break in a path is not supported" ;;
	'' | /*) ;;
	*) models=$(pwd)/$models ;;
	esac
	host=$(setting OLLAMA_HOST)
	[ -z "$port" ] || host=127.0.0.1:$port
	[ -n "$models" ] || models=$(setting OLLAMA_MODELS)
	cat >"$stage/env" <<-SETTINGS
		# Settings of this ollama, unless the environment says them.
		OLLAMA_HOST=${host:-127.0.0.1:11435}
		OLLAMA_MODELS=${models:-$prefix/models}
	SETTINGS
	mv -f "$stage/env" "$own/env"
fi
[ -n "$upgrade" ] || [ -z "$home" ] || [ -e "$home/.ollama" ] || : >"$own/home-was-empty"

if [ -n "$service" ]; then
	mkdir -p "$(dirname "$unit")"
	replacement=$(printf '%s' "$escaped" | sed 's/[&,]/\\&/g')
	sed "s,@PREFIX@,$replacement," "$own/ollama-longrope.service" >"$unit"
	user_systemctl daemon-reload || true
	if user_systemctl enable --now ollama-longrope.service; then
		user_systemctl restart ollama-longrope.service || true
		say "the service ollama-longrope runs"
	else
		say "wrote $unit; no systemd of this user answers: systemctl --user enable --now ollama-longrope"
	fi
fi

version=$("$prefix/bin/ollama" --version 2>/dev/null | sed -n 's/^longrope version is //p') || true
[ -n "$version" ] || say "note: $prefix/bin/ollama does not run here; it needs glibc and libstdc++ of Debian 12 or later"
say "installed ${version:-the program} in $prefix${more:+ }$([ "$more" = 0 ] || echo "with $more more tarball(s)")"
first_ollama=$(command -v ollama || true)
if [ -n "$first_ollama" ] && [ ! "$first_ollama" -ef "$prefix/bin/ollama" ]; then
	say "note: another ollama comes first in PATH: $first_ollama"
fi
[ "$first_ollama" -ef "$prefix/bin/ollama" ] || {
	say "next:"
	printf "  PATH='%s'/bin:\$PATH\n" "$(printf '%s' "$prefix" | sed "s/'/'\\\\''/g")" >&2
}
[ -n "$service" ] || printf '  ollama serve\n' >&2
printf '  ollama longrope doctor\n' >&2
