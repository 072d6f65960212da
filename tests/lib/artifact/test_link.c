/* Objects under other names: every way gives the same bytes, read-only. */
#include "lib/artifact/link.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/artifact/digest.h"
#include "lib/artifact/disk.h"
#include "tests/lib/artifact/faults.h"
#include "tests/support/expect_error.h"
#include "tests/support/processes.h"
#include "tests/support/temp_folder.h"

enum { OBJECT_BYTES = (2 << 20) + 12345 };

static char folder[PATH_BYTES], object[PATH_BYTES], target[PATH_BYTES];

/* A file system that clones, where there is none: the answer of one, and its bytes. */
static bool clones;
static int cloned;

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	long argument = va_arg(args, long);
	va_end(args);
	struct stat st;
	if (request != FICLONE || !clones)
		return (int)syscall(SYS_ioctl, fd, request, argument);
	off_t from = 0;
	cloned++;
	return fstat((int)argument, &st) == 0 &&
	       copy_file_range((int)argument, &from, fd, NULL, (size_t)st.st_size, 0) ==
	               st.st_size ? 0 : -1;
}

static int make(void **state)
{
	(void)state;
	error err;
	char *data = malloc(OBJECT_BYTES);
	if (!data || !temp_folder_make(folder, &err))
		return -1;
	for (size_t i = 0; i < OBJECT_BYTES; i++)
		data[i] = (char)(i * 2654435761u >> 11);
	bool ok = temp_folder_write(folder, "object", data, OBJECT_BYTES, &err) &&
	          join_path(object, sizeof object, folder, "object", &err) &&
	          join_path(target, sizeof target, folder, "target", &err) &&
	          chmod(object, 0444) == 0;
	free(data);
	return ok ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	set_fault(FAULT_NONE, 0, 0);
	temp_folder_remove(folder);
	return 0;
}

static void expect_copy(const char *path)
{
	struct digest a, b;
	struct stat st;
	uint64_t bytes;
	error err;
	assert_true(digest_file(object, &a, &bytes, &err));
	assert_true(digest_file(path, &b, &bytes, &err));
	assert_true(digest_equal(&a, &b));
	assert_int_equal(bytes, OBJECT_BYTES);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0444);
	assert_int_equal(stat(object, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0444);
}

static ino_t inode_of(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void every_mode_gives_the_same_bytes(void **state)
{
	(void)state;
	for (unsigned mode = LINK_REFLINK; mode <= LINK_BYTES; mode <<= 1) {
		enum link_mode used;
		error err;
		if (link_object(object, target, mode, &used, &err)) {
			assert_int_equal(used, mode);
			expect_copy(target);
			assert_true((inode_of(target) == inode_of(object)) == (mode == LINK_HARD));
		} else if (mode == LINK_REFLINK) {
			expect_error(&err, EXIT_ENVIRONMENT, target, object, NULL);
			print_message("note: no reflinks on this file system\n");
		} else {
			fail_msg("mode %u: %s", mode, err.text);
		}
	}
	assert_int_equal(count_entries(folder), 2);
}

static void takes_the_first_mode_that_works(void **state)
{
	(void)state;
	enum link_mode used;
	error err;
	assert_true(link_object(object, target, LINK_ANY, &used, &err));
	assert_true(used == LINK_REFLINK || used == LINK_HARD);
	expect_copy(target);
	assert_true(link_object(object, target, LINK_RANGE | LINK_BYTES, &used, &err));
	assert_int_equal(used, LINK_RANGE);
	expect_copy(target);
	/* A hard link over a copy, and over itself. */
	assert_true(link_object(object, target, LINK_HARD, &used, &err));
	struct stat before, after;
	assert_int_equal(stat(target, &before), 0);
	assert_true(link_object(object, target, LINK_HARD, &used, &err));
	assert_int_equal(used, LINK_HARD);
	assert_int_equal(stat(target, &after), 0);
	assert_int_equal(after.st_nlink, 2);
	assert_int_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
	/* A copy over a hard link of the object leaves the object as it was. */
	assert_true(link_object(object, target, LINK_BYTES, &used, &err));
	assert_true(inode_of(target) != inode_of(object));
	expect_copy(target);
	assert_int_equal(count_entries(folder), 2);
}

static void clones_first_where_that_works(void **state)
{
	(void)state;
	enum link_mode used;
	error err;
	struct stat st;
	clones = true;
	cloned = 0;
	bool linked = link_object(object, target, LINK_ANY, &used, &err);
	clones = false;
	assert_true(linked);
	assert_int_equal(used, LINK_REFLINK);
	assert_int_equal(cloned, 1);
	assert_true(inode_of(target) != inode_of(object));
	assert_int_equal(stat(object, &st), 0);
	assert_int_equal(st.st_nlink, 1);
	expect_copy(target);
}

/* As when another process has just put its own file in the object's place. */
static void links_an_object_that_was_replaced(void **state)
{
	(void)state;
	enum link_mode used;
	error err;
	set_fault(FAULT_ERROR, 1, ENOENT);
	bool linked = place_object(object, target, LINK_HARD, &used, &err);
	set_fault(FAULT_NONE, 0, 0);
	assert_true(linked);
	assert_int_equal(inode_of(target), inode_of(object));
}

/* What hard links answer when an object has all the names it can have, and when
 * it belongs to somebody else. */
static void goes_on_to_a_copy_where_links_are_refused(void **state)
{
	(void)state;
	static const int refusals[] = { EMLINK, EPERM, EXDEV, EOPNOTSUPP };
	for (size_t i = 0; i < 4; i++) {
		enum link_mode used;
		error err;
		unlink(target);
		set_fault(FAULT_ERROR, 1, refusals[i]);
		assert_true(place_object(object, target, LINK_HARD | LINK_RANGE, &used, &err));
		set_fault(FAULT_NONE, 0, 0);
		assert_int_equal(used, LINK_RANGE);
		expect_copy(target);
	}
}

static void copies_between_file_systems(void **state)
{
	(void)state;
	struct stat here, there;
	char elsewhere[] = "/dev/shm/quern.XXXXXX", path[PATH_BYTES];
	enum link_mode used;
	error err;
	if (!mkdtemp(elsewhere)) {
		print_message("SKIP between file systems: /dev/shm is absent\n");
		skip();
	}
	assert_true(join_path(path, sizeof path, elsewhere, "target", &err));
	bool two = stat(folder, &here) == 0 && stat(elsewhere, &there) == 0 &&
	           here.st_dev != there.st_dev;
	bool linked = link_object(object, path, LINK_HARD, &used, &err);
	bool copied = link_object(object, path, LINK_ANY, &used, &err);
	if (copied)
		expect_copy(path);
	temp_folder_remove(elsewhere);
	assert_true(copied);
	if (!two) {
		print_message("SKIP between file systems: there is only one\n");
		skip();
	}
	assert_false(linked);
	expect_error(&err, EXIT_ENVIRONMENT, path, object, NULL);
	assert_true(used == LINK_RANGE || used == LINK_BYTES);
}

static int link_once(void *mode)
{
	error err;
	return link_object(object, target, *(unsigned *)mode, NULL, &err) ? 0 : err.code;
}

static void survives_every_fault(void **state)
{
	(void)state;
	const struct fault { enum fault_kind kind; int code; } all[] = {
		{ FAULT_KILL, 0 }, { FAULT_ERROR, EIO }, { FAULT_ERROR, ENOSPC },
		{ FAULT_ERROR, EINTR }, { FAULT_SHORT_WRITE, 0 },
	};
	for (unsigned mode = LINK_HARD; mode <= LINK_BYTES; mode <<= 1) {
		for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
			error err;
			unlink(target);
			assert_true(temp_folder_write(folder, "target", "old", 3, &err));
			int calls = count_calls(link_once, &mode);
			assert_true(calls > 4);
			for (int k = 1; k <= calls; k++) {
				unlink(target);
				assert_true(temp_folder_write(folder, "target", "old", 3, &err));
				set_fault(all[i].kind, k, all[i].code);
				int answer = run_process(link_once, &mode);
				set_fault(FAULT_NONE, 0, 0);
				struct stat st;
				assert_int_equal(stat(target, &st), 0);
				if (st.st_size != 3)
					expect_copy(target);
				else
					assert_int_not_equal(answer, 0);
				assert_int_equal(link_once(&mode), 0);
				expect_copy(target);
				assert_int_equal(count_entries(folder), 2);
			}
		}
	}
}

static void names_what_is_missing(void **state)
{
	(void)state;
	error err;
	assert_int_equal(unlink(object), 0);
	for (unsigned mode = LINK_REFLINK; mode <= LINK_BYTES; mode <<= 1) {
		assert_false(link_object(object, target, mode, NULL, &err));
		expect_error(&err, EXIT_ENVIRONMENT, target, object, "No such file", NULL);
	}
	assert_int_equal(count_entries(folder), 0);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(every_mode_gives_the_same_bytes),
		IN_FOLDER(takes_the_first_mode_that_works),
		IN_FOLDER(clones_first_where_that_works),
		IN_FOLDER(links_an_object_that_was_replaced),
		IN_FOLDER(goes_on_to_a_copy_where_links_are_refused),
		IN_FOLDER(copies_between_file_systems),
		IN_FOLDER(survives_every_fault),
		IN_FOLDER(names_what_is_missing),
	};
	return cmocka_run_group_tests_name("lib/artifact/link", tests, NULL, NULL);
}
