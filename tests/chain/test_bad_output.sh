#!/bin/sh
# Places that cannot be written: exit code 3, one line that names the place, nothing
# half-written; and once there is room, the same command carries on.
. tests/support/scenario.sh

copy_tools "$work/bin"
cp -r "$repo/demo" "$work/demo"
chmod -R a+rX,u+w "$work"
cd "$work" || exit 1
chmod a+rwx .
umask 022

# Permissions do not bind root: as root, the command runs as nobody.
as_user() {
	if [ "$(id -u)" -ne 0 ]; then
		"$@"
	else
		setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/ "$@"
	fi
}

# fails, as an ordinary user.
fails_as_user() {
	code=$1 pattern=$2
	shift 2
	found=0
	as_user "$@" >"$work/fails.out" 2>"$work/fails.err" || found=$?
	if [ "$found" -eq "$code" ] && [ "$(wc -l <"$work/fails.err")" -eq 1 ] &&
		grep -q "^${1##*/}: " "$work/fails.err" &&
		grep -Eq -e "$pattern" "$work/fails.err"; then
		return 0
	fi
	echo "expected exit $code and one line with /$pattern/, found exit $found and:"
	cat "$work/fails.err"
	return 1
}

quantize() {
	set -- bin/quantize --model demo/tiny-qwen2_5-vl --tree "$1" --out "$1/quantize.json"
	"$@"
}

calibrate="bin/calibrate --model demo/tiny-qwen2_5-vl --captions demo/demo_captions.txt
	--prompt text --samples 2"

file_in_the_way() {
	echo hello >file
	fails 3 '^quantize: file' bin/quantize --model demo/tiny-qwen2_5-vl --tree file \
		--out file/quantize.json
	fails 3 '^calibrate: file' $calibrate --tree file --out file/calibrate.json
	fails 3 'file' bin/scan --list /dev/null --tree file
	is file "$(cat file)" hello
}

folder_in_the_way() {
	mkdir -p way/tree way/out.json
	fails 3 'way/out.json' $calibrate --tree way/tree --out way/out.json
	[ -d way/out.json ]
	[ -z "$(ls way/out.json)" ]
	no_leftovers way
}

no_permission() {
	mkdir closed
	chmod 555 closed
	fails_as_user 3 'closed.*Permission denied' $calibrate --tree closed/tree \
		--out closed/calibrate.json
	mkdir -p open
	chmod 777 open
	fails_as_user 3 'closed/calibrate.json.*Permission denied' $calibrate --tree open \
		--out closed/calibrate.json
	[ -z "$(ls -A closed)" ]
}

configure_no_permission() {
	mkdir here
	cp "$repo/schemes.json" "$repo/build.ninja.in" here/
	ln -s "$work/demo" here/demo
	chmod 555 here
	(
		cd here
		fails_as_user 3 'out.*Permission denied' "$work/bin/configure"
	)
	is files "$(ls here | tr '\n' ' ')" 'build.ninja.in demo schemes.json '
}

unreadable_model() {
	cp -r demo/tiny-qwen2_5-vl secret
	chmod 000 secret/config.json
	fails_as_user 3 'secret/config.json: .*Permission denied' bin/quantize --model secret \
		--tree open --out open/quantize.json
	chmod 644 secret/config.json
	chmod 000 secret/model-00002-of-00002.safetensors
	fails_as_user 3 'secret/model-00002-of-00002.safetensors: .*Permission denied' \
		bin/quantize --model secret --tree open --out open/quantize.json
	[ ! -e open/quantize.json ]
	no_leftovers open
}

read_only_model() {
	cp -r demo/tiny-qwen2_5-vl sealed
	chmod 444 sealed/*
	chmod 555 sealed
	mkdir -p open/sealed
	chmod 777 open/sealed
	as_user $calibrate --model sealed --tree open/sealed --out open/sealed/calibrate.json
	as_user bin/quantize --model sealed --tree open/sealed --out open/sealed/quantize.json
	[ -s open/sealed/quantize.json ]
}

# A limit on the size of files stands in for a full disk where none can be made.
file_size_limit() {
	mkdir limited
	(
		trap '' XFSZ
		ulimit -f 200
		fails 3 'limited/store/.*(File too large)' bin/quantize \
			--model demo/tiny-qwen2_5-vl --tree limited --out limited/quantize.json
	)
	[ ! -e limited/quantize.json ]
	no_leftovers limited
	quantize limited
}

full_disk() {
	mkdir disk
	mount -t tmpfs -o size=3m tmpfs disk 2>/dev/null || {
		echo "mounting needs more rights than this"
		exit 77
	}
	trap 'umount disk' EXIT
	fails 3 'disk/store/.*No space left on device' bin/quantize \
		--model demo/tiny-qwen2_5-vl --tree disk --out disk/quantize.json
	[ ! -e disk/quantize.json ]
	no_leftovers disk
	mount -o remount,size=64m disk
	quantize disk
	# Full to the last page: not even a small file fits.
	rm -r disk/quantize.json disk/log disk/state
	mount -o remount,size="$(($(df --output=used -k disk | tail -n 1) + 4))k" disk
	fails 3 'disk/.*(No space left on device|full)' bin/quantize \
		--model demo/tiny-qwen2_5-vl --tree disk --out disk/quantize.json
	[ ! -e disk/quantize.json ]
	no_leftovers disk
	mount -o remount,size=64m disk
	quantize disk
	quantize limited/again
	cmp disk/quantize.json limited/again/quantize.json
	umount disk
	trap - EXIT
}

check file_in_the_way file_in_the_way
check folder_in_the_way folder_in_the_way
check output_not_writable no_permission
check configure_not_writable configure_no_permission
check model_not_readable unreadable_model
check read_only_model_folder read_only_model
check file_size_limit file_size_limit
check disk_full full_disk
finish
