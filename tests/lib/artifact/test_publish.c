/* Atomic files and folders: whole or as before, whatever call they die at. */
#include "lib/artifact/publish.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "tests/lib/artifact/faults.h"
#include "tests/support/expect_error.h"
#include "tests/support/processes.h"
#include "tests/support/temp_folder.h"

enum { VERSION_BYTES = 100000 };

static char folder[PATH_BYTES], target[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(target, sizeof target, folder, "target", &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	set_fault(FAULT_NONE, 0, 0);
	faults.no_exchange = false;
	faults.before_renameat2 = NULL;
	faults.after_mkdir = NULL;
	temp_folder_remove(folder);
	return 0;
}

/* What a version's file holds: VERSION_BYTES of one letter. */
static void fill_version(char *data, char version)
{
	memset(data, version, VERSION_BYTES);
}

/* The version that a file holds, whole; 0 for none, -1 for anything else. */
static int version_of(const char *path)
{
	char *data, expected[VERSION_BYTES];
	size_t size;
	error err;
	if (!file_exists(path))
		return 0;
	if (!read_file(path, 1 << 20, &data, &size, &err))
		return -1;
	int version = size == VERSION_BYTES ? data[0] : -1;
	if (version > 0) {
		fill_version(expected, (char)version);
		version = memcmp(data, expected, size) == 0 ? version : -1;
	}
	free(data);
	return version;
}

/* The same for a published folder: both of its files, and no other. */
static int folder_version(const char *path)
{
	char file[PATH_BYTES], sub[PATH_BYTES];
	error err;
	if (!file_exists(path))
		return 0;
	if (!join_path(file, sizeof file, path, "one", &err) ||
	    !join_path(sub, sizeof sub, path, "sub/two", &err) || count_entries(path) != 2)
		return -1;
	return version_of(file) == version_of(sub) ? version_of(file) : -1;
}

static int publish_file(void *version)
{
	char data[VERSION_BYTES];
	error err = { 0 };
	fill_version(data, *(const char *)version);
	return write_file(target, data, sizeof data, &err) ? 0 : err.code;
}

/* As configure does, the one that counts last. */
static int publish_files(void *version)
{
	char data[VERSION_BYTES], first[PATH_BYTES + 8];
	error err = { 0 };
	fill_version(data, *(const char *)version);
	snprintf(first, sizeof first, "%s.first", target);
	const struct new_file files[] = { { first, data, 10 }, { target, data, sizeof data } };
	return write_files_if_changed(files, 2, &err) ? 0 : err.code;
}

static int files_version(const char *path)
{
	char first[PATH_BYTES + 8], *data;
	size_t size;
	error err;
	int version = version_of(path);
	snprintf(first, sizeof first, "%s.first", path);
	if (!read_file(first, 100, &data, &size, &err))
		return version == 0 ? 0 : -1;
	/* The first may be newer: whoever reads the last would come again. */
	bool whole = size == 10 && data[0] == data[9] && data[0] >= version;
	free(data);
	return whole ? version : -1;
}

static int publish_folder(void *version)
{
	char data[VERSION_BYTES];
	struct draft d;
	error err = { 0 };
	fill_version(data, *(const char *)version);
	return draft_begin(&d, target, &err) &&
	       draft_write(&d, "one", data, sizeof data, &err) &&
	       draft_write(&d, "sub/two", data, sizeof data, &err) &&
	       draft_publish(&d, &err) ? 0 : err.code;
}

/* A way to publish, and to look at what is there. */
struct publisher {
	int (*publish)(void *version);
	int (*version)(const char *path);
	bool never_absent; /* a kill leaves the old or the new, never nothing */
	int entries;
};

static const struct publisher of_file = { publish_file, version_of, true, 1 };
static const struct publisher of_folder = { publish_folder, folder_version, true, 1 };
static const struct publisher of_files = { publish_files, files_version, true, 2 };
static const struct publisher of_folder_elsewhere = { publish_folder, folder_version,
	                                                   false, 1 };

/* Publishes `new` over `old` with the k-th call faulty, for every k, and then
 * undisturbed. */
static void try_every_call(const struct publisher *p, enum fault_kind kind, int code)
{
	char old = 'a', new = 'b';
	assert_int_equal(p->publish(&old), 0);
	int calls = count_calls(p->publish, &new);
	assert_true(calls > 4);
	for (int k = 1; k <= calls; k++) {
		temp_folder_remove(target);
		unlink(target);
		assert_int_equal(p->publish(&old), 0);
		set_fault(kind, k, code);
		int answer = run_process(p->publish, &new);
		set_fault(FAULT_NONE, 0, 0);
		int found = p->version(target);
		if (found != old && found != new && (found != 0 || p->never_absent))
			fail_msg("fault %d at call %d left version %d", kind, k, found);
		if (kind == FAULT_KILL)
			assert_int_equal(answer, -SIGKILL);
		if (answer == 0 && found != new)
			fail_msg("fault %d at call %d: success without a result", kind, k);
		if (kind == FAULT_ERROR && code != EINTR && answer != 0)
			assert_int_equal(answer, EXIT_ENVIRONMENT);
		if (kind == FAULT_SHORT_WRITE || code == EINTR)
			assert_int_equal(answer, 0);
		assert_int_equal(p->publish(&new), 0);
		assert_int_equal(p->version(target), new);
		if (count_entries(folder) != p->entries)
			fail_msg("fault %d at call %d left something behind", kind, k);
	}
}

static void try_every_fault(const struct publisher *p)
{
	try_every_call(p, FAULT_KILL, 0);
	try_every_call(p, FAULT_ERROR, EIO);
	try_every_call(p, FAULT_ERROR, ENOSPC);
	try_every_call(p, FAULT_ERROR, EINTR);
	try_every_call(p, FAULT_SHORT_WRITE, 0);
}

static void a_file_survives_every_fault(void **state)
{
	(void)state;
	try_every_fault(&of_file);
}

static void files_survive_every_fault(void **state)
{
	(void)state;
	try_every_fault(&of_files);
}

static void a_folder_survives_every_fault(void **state)
{
	(void)state;
	try_every_fault(&of_folder);
}

static void a_folder_survives_where_nothing_can_be_swapped(void **state)
{
	(void)state;
	faults.no_exchange = true;
	try_every_fault(&of_folder_elsewhere);
}

static int publish_on_and_on(void *publish)
{
	for (char version = 'a';; version = version == 'z' ? 'a' : (char)(version + 1))
		if ((*(int (**)(void *))publish)(&version) != 0)
			return 1;
}

/* Kills at arbitrary instructions, not only at calls. */
static void kill_at_random(const struct publisher *p)
{
	char first = 'a';
	int (*publish)(void *) = p->publish;
	assert_int_equal(p->publish(&first), 0);
	for (int round = 0; round < 25; round++) {
		pid_t child = start_process(publish_on_and_on, &publish);
		usleep((unsigned)(round * 7919 % 9000));
		kill(child, SIGKILL);
		assert_int_equal(wait_process(child), -SIGKILL);
		assert_true(p->version(target) >= 'a');
	}
	assert_int_equal(p->publish(&first), 0);
	assert_int_equal(p->version(target), first);
	assert_int_equal(count_entries(folder), 1);
}

static void a_file_survives_kills_at_random(void **state)
{
	(void)state;
	kill_at_random(&of_file);
}

static void a_folder_survives_kills_at_random(void **state)
{
	(void)state;
	kill_at_random(&of_folder);
}

static int publish_many(void *publisher)
{
	const struct publisher *p = publisher;
	for (char version = 'a'; version <= 'z'; version++)
		if (p->publish(&version) != 0 || p->version(target) == -1)
			return 1;
	return 0;
}

/* version_of reads path by path and may meet two versions; so only files are
 * looked at while others publish. */
static void processes_may_publish_the_same_file(void **state)
{
	(void)state;
	pid_t children[6];
	for (size_t i = 0; i < 6; i++)
		children[i] = start_process(publish_many, (void *)(uintptr_t)&of_file);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(wait_process(children[i]), 0);
	assert_int_equal(version_of(target), 'z');
	assert_int_equal(count_entries(folder), 1);
}

static int publish_folders(void *unused)
{
	(void)unused;
	for (char version = 'a'; version <= 'z'; version++)
		if (publish_folder(&version) != 0)
			return 1;
	return 0;
}

static void processes_may_publish_the_same_folder(void **state)
{
	(void)state;
	for (int without_swap = 0; without_swap < 2; without_swap++) {
		pid_t children[6];
		char last = 'Z';
		faults.no_exchange = without_swap;
		for (size_t i = 0; i < 6; i++)
			children[i] = start_process(publish_folders, NULL);
		for (size_t i = 0; i < 6; i++)
			assert_int_equal(wait_process(children[i]), 0);
		assert_int_equal(publish_folder(&last), 0);
		assert_int_equal(folder_version(target), last);
		assert_int_equal(count_entries(folder), 1);
	}
}

/* Somebody else's folder is there whenever the first call looks, and gone whenever the
 * second does, `rounds` times. */
static int rounds;

static void come_and_go(const char *to, unsigned flags)
{
	if (rounds <= 0)
		return;
	if (flags & RENAME_EXCHANGE) {
		assert_int_equal(syscall(SYS_unlinkat, AT_FDCWD, to, AT_REMOVEDIR), 0);
		rounds--;
	} else {
		assert_int_equal(syscall(SYS_mkdirat, AT_FDCWD, to, 0777), 0);
	}
}

static void a_target_may_come_and_go(void **state)
{
	(void)state;
	char version = 'a';
	rounds = 20;
	faults.before_renameat2 = come_and_go;
	assert_int_equal(publish_folder(&version), 0);
	assert_int_equal(rounds, 0);
	assert_int_equal(folder_version(target), version);
	assert_int_equal(count_entries(folder), 1);
	temp_folder_remove(target);
	rounds = 1 << 20; /* it is given up some time */
	assert_int_equal(publish_folder(&version), EXIT_ENVIRONMENT);
	assert_int_equal(count_entries(folder), 0);
}

/* The first temporary is reclaimed as soon as it is made, and another publisher makes
 * one of the same name, publishes it, and has yet to remove the old folder, which the name
 * now means. */
static void swap_out_another(const char *path)
{
	char file[PATH_BYTES];
	error err;
	faults.after_mkdir = NULL;
	assert_true(join_path(file, sizeof file, path, "one", &err));
	int fd = open(file, O_WRONLY | O_CREAT, 0666);
	assert_true(fd >= 0);
	close(fd);
}

static void a_temporary_is_empty_at_first(void **state)
{
	(void)state;
	char version = 'a';
	faults.after_mkdir = swap_out_another;
	assert_int_equal(publish_folder(&version), 0);
	assert_null(faults.after_mkdir);
	assert_int_equal(folder_version(target), version);
	assert_int_equal(count_entries(folder), 1);
}

/* Nothing of the machine's own: a test that fails takes it away. */
static void devices_and_pipes_stay(void **state)
{
	(void)state;
	static const char *const found[] = { "a pipe", "a pipe", "a device" };
	char version = 'a', path[PATH_BYTES];
	error err;
	for (size_t i = 0; i < 3; i++) {
		assert_true(join_path(path, sizeof path, folder, i == 1 ? "link" : found[i], &err));
		int made = i == 0 ? mkfifo(path, 0666) : i == 1 ? symlink("a pipe", path) :
		           mknod(path, S_IFCHR | 0666, makedev(1, 7));
		if (made != 0) {
			print_message("SKIP a device: not allowed to make one\n");
			assert_int_equal(i, 2);
			break;
		}
		strcpy(target, path);
		assert_false(write_file(target, "x", 1, &err));
		expect_error(&err, EXIT_ENVIRONMENT, target, "nothing there, found", found[i],
		             NULL);
		assert_int_equal(publish_folder(&version), EXIT_ENVIRONMENT);
		assert_int_equal(count_entries(folder), i + 1);
	}
}

static void an_equal_file_is_left_untouched(void **state)
{
	(void)state;
	struct stat before, after;
	bool changed;
	error err;
	assert_true(write_file_if_changed(target, "same", 4, &changed, &err));
	assert_true(changed);
	const struct timespec old[2] = { { 1000, 5 }, { 1000, 5 } };
	assert_int_equal(utimensat(AT_FDCWD, target, old, 0), 0);
	assert_int_equal(stat(target, &before), 0);
	assert_true(write_file_if_changed(target, "same", 4, &changed, &err));
	assert_false(changed);
	assert_int_equal(stat(target, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(after.st_mtim.tv_sec, 1000);
	assert_int_equal(after.st_mtim.tv_nsec, 5);
	assert_int_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
	static const char *const others[] = { "sama", "sam", "same\n", "" };
	for (size_t i = 0; i < 4; i++) {
		char *data;
		size_t size;
		assert_true(write_file_if_changed(target, others[i], strlen(others[i]), &changed,
		                                  &err));
		assert_true(changed);
		assert_true(read_file(target, 100, &data, &size, &err));
		assert_string_equal(data, others[i]);
		free(data);
	}
	assert_int_equal(count_entries(folder), 1);
}

static void pieces_add_up_and_can_be_abandoned(void **state)
{
	(void)state;
	struct atomic_file f;
	char *data;
	size_t size;
	error err;
	assert_true(atomic_begin(&f, target, &err));
	assert_true(atomic_write(&f, "one ", 4, &err) && atomic_write(&f, "two", 3, &err));
	assert_false(file_exists(target));
	assert_true(atomic_commit(&f, &err));
	assert_true(read_file(target, 100, &data, &size, &err));
	assert_string_equal(data, "one two");
	free(data);
	assert_true(atomic_begin(&f, target, &err));
	assert_true(atomic_write(&f, "three", 5, &err));
	atomic_abandon(&f);
	struct draft d;
	assert_true(draft_begin(&d, target, &err));
	assert_true(draft_write(&d, "x", "x", 1, &err));
	draft_abandon(&d);
	assert_int_equal(count_entries(folder), 1);
}

/* A folder may take the place of a file, and of a folder named with a slash. */
static void a_folder_replaces_what_is_there(void **state)
{
	(void)state;
	char version = 'a';
	struct draft d;
	error err;
	for (int without_swap = 0; without_swap < 2; without_swap++) {
		faults.no_exchange = without_swap;
		temp_folder_remove(target);
		unlink(target);
		assert_true(write_file(target, "a file", 6, &err));
		assert_int_equal(publish_folder(&version), 0);
		assert_int_equal(folder_version(target), version);
	}
	strcat(target, "///");
	assert_true(draft_begin(&d, target, &err));
	assert_true(draft_publish(&d, &err));
	assert_int_equal(count_entries(target), 0);
	assert_int_equal(count_entries(folder), 1);
	assert_false(draft_begin(&d, "", &err));
	expect_error(&err, EXIT_ENVIRONMENT, "path is empty", NULL);
}

/* Another process's temporary is not a leftover while that process lives. */
static void the_temporaries_of_the_living_stay(void **state)
{
	(void)state;
	struct draft slow;
	struct atomic_file slow_file;
	char version = 'a', file[PATH_BYTES];
	error err;
	assert_true(draft_begin(&slow, target, &err));
	assert_true(draft_write(&slow, "slow", "slow", 4, &err));
	assert_int_equal(run_process(publish_folder, &version), 0);
	assert_int_equal(folder_version(target), version);
	assert_true(draft_publish(&slow, &err));
	assert_int_equal(count_entries(target), 1);
	assert_true(join_path(file, sizeof file, folder, "file", &err));
	assert_true(atomic_begin(&slow_file, file, &err));
	assert_true(write_file(file, "fast", 4, &err));
	assert_true(atomic_write(&slow_file, "slow", 4, &err));
	assert_true(atomic_commit(&slow_file, &err));
	assert_int_equal(count_entries(folder), 2);
}

/* Ordinary users only: root may write anywhere. */
static int publish_as_nobody(void *publish)
{
	char version = 'b';
	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		return 99;
	return (*(int (**)(void *))publish)(&version);
}

static void a_read_only_folder_is_named(void **state)
{
	(void)state;
	int (*file)(void *) = publish_file, (*whole)(void *) = publish_folder;
	error err;
	char version = 'a';
	assert_int_equal(publish_file(&version), 0);
	assert_int_equal(chmod(folder, 0555), 0);
	assert_int_equal(run_process(publish_as_nobody, &file), EXIT_ENVIRONMENT);
	assert_int_equal(run_process(publish_as_nobody, &whole), EXIT_ENVIRONMENT);
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(version_of(target), 'a');
	set_fault(FAULT_ERROR, 1, EROFS);
	assert_false(write_file(target, "x", 1, &err));
	expect_error(&err, EXIT_ENVIRONMENT, target, "Read-only file system", NULL);
	set_fault(FAULT_NONE, 0, 0);
	strcat(target, "/below/a/file");
	assert_false(write_file(target, "x", 1, &err));
	expect_error(&err, EXIT_ENVIRONMENT, target, NULL);
}

static int publish_over_the_limit(void *publish)
{
	char version = 'b';
	struct rlimit limit = { VERSION_BYTES / 2, VERSION_BYTES / 2 };
	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		return 99;
	return (*(int (**)(void *))publish)(&version);
}

static void a_file_too_large_leaves_nothing(void **state)
{
	(void)state;
	int (*ways[])(void *) = { publish_file, publish_folder };
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(run_process(publish_over_the_limit, &ways[i]),
		                 EXIT_ENVIRONMENT);
		assert_int_equal(count_entries(folder), 0);
	}
}

enum { NO_MOUNT = 77 };

/* In a mount namespace of its own, which ends with the process. */
static int publish_on_a_full_disk(void *publish)
{
	char version = 'b';
	if (unshare(CLONE_NEWNS) != 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", folder, "tmpfs", 0, "size=64k") != 0)
		return NO_MOUNT;
	int answer = (*(int (**)(void *))publish)(&version);
	return count_entries(folder) == 0 ? answer : 98;
}

static void a_full_disk_leaves_nothing(void **state)
{
	(void)state;
	int (*ways[])(void *) = { publish_file, publish_folder };
	for (size_t i = 0; i < 2; i++) {
		int answer = run_process(publish_on_a_full_disk, &ways[i]);
		if (answer == NO_MOUNT) {
			print_message("SKIP a full disk: not allowed to mount a tmpfs\n");
			skip();
		}
		assert_int_equal(answer, EXIT_ENVIRONMENT);
	}
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(a_file_survives_every_fault),
		IN_FOLDER(files_survive_every_fault),
		IN_FOLDER(a_folder_survives_every_fault),
		IN_FOLDER(a_folder_survives_where_nothing_can_be_swapped),
		IN_FOLDER(a_file_survives_kills_at_random),
		IN_FOLDER(a_folder_survives_kills_at_random),
		IN_FOLDER(processes_may_publish_the_same_file),
		IN_FOLDER(processes_may_publish_the_same_folder),
		IN_FOLDER(a_target_may_come_and_go),
		IN_FOLDER(a_temporary_is_empty_at_first),
		IN_FOLDER(devices_and_pipes_stay),
		IN_FOLDER(an_equal_file_is_left_untouched),
		IN_FOLDER(pieces_add_up_and_can_be_abandoned),
		IN_FOLDER(a_folder_replaces_what_is_there),
		IN_FOLDER(the_temporaries_of_the_living_stay),
		IN_FOLDER(a_read_only_folder_is_named),
		IN_FOLDER(a_file_too_large_leaves_nothing),
		IN_FOLDER(a_full_disk_leaves_nothing),
	};
	return cmocka_run_group_tests_name("lib/artifact/publish", tests, NULL, NULL);
}
