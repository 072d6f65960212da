/* The seam: what it does about interruptions and short writes, and that the rest
 * of the room goes through it. */
#include "lib/artifact/disk.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/file.h"
#include "tests/lib/artifact/faults.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

static char folder[PATH_BYTES], path[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(path, sizeof path, folder, "file", &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	set_fault(FAULT_NONE, 0, 0);
	temp_folder_remove(folder);
	return 0;
}

static void expect_content(const char *expected)
{
	char *data;
	size_t size;
	error err;
	assert_true(read_file(path, 1000, &data, &size, &err));
	assert_string_equal(data, expected);
	free(data);
}

static int make_and_remove(void *unused)
{
	(void)unused;
	return disk_make_folder(path) + disk_remove_folder(path);
}

static void every_call_is_counted(void **state)
{
	(void)state;
	assert_int_equal(count_calls(make_and_remove, NULL), 2);
}

static void writes_all_of_it(void **state)
{
	(void)state;
	int fd = disk_create(path, 0666);
	assert_true(fd >= 0);
	set_fault(FAULT_SHORT_WRITE, 1, 0);
	assert_int_equal(disk_write(fd, "0123456789", 10), 0);
	assert_int_equal(faults.count, 2);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_write(fd, "abc", 3), 0);
	set_fault(FAULT_ERROR, 1, ENOSPC);
	assert_int_equal(disk_write(fd, "xyz", 3), -ENOSPC);
	close(fd);
	expect_content("0123456789abc");
}

static void writes_once_or_says_so(void **state)
{
	(void)state;
	int fd = disk_append(path);
	assert_true(fd >= 0);
	assert_int_equal(disk_write_once(fd, "one\n", 4), 0);
	set_fault(FAULT_SHORT_WRITE, 1, 0);
	assert_int_equal(disk_write_once(fd, "two\n", 4), -ENOSPC);
	assert_int_equal(faults.count, 1);
	close(fd);
	expect_content("one\ntw");
}

static void goes_on_after_an_interruption(void **state)
{
	(void)state;
	char other[PATH_BYTES];
	error err;
	assert_true(join_path(other, sizeof other, folder, "other", &err));
	set_fault(FAULT_ERROR, 1, EINTR);
	int fd = disk_create(path, 0444);
	assert_true(fd >= 0);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_sync(fd), 0);
	close(fd);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_link(path, other), 0);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_unlink(other), 0);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_rename_new(path, other), 0);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_rename(other, path), 0);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_make_folder(other), 0);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_exchange(path, other), 0);
	set_fault(FAULT_ERROR, 1, EINTR);
	assert_int_equal(disk_remove_folder(path), 0);
	assert_int_equal(disk_sync_parent(other), 0);
	assert_int_equal(disk_sync_parent("demo"), 0);
	assert_int_equal(disk_sync_parent("/demo"), 0);
}

static void never_opens_what_is_there(void **state)
{
	(void)state;
	int fd = disk_create(path, 0666);
	close(fd);
	assert_int_equal(disk_create(path, 0666), -EEXIST);
	assert_int_equal(disk_rename_new(folder, folder), -EEXIST);
}

static void calls_every_failure_the_environments(void **state)
{
	(void)state;
	static const int codes[] = { ENOSPC, EROFS, EACCES, EDQUOT, EFBIG, EIO, ENOENT };
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		error err;
		assert_false(fail_disk(&err, -codes[i], "out/x", "write"));
		expect_error(&err, EXIT_ENVIRONMENT, "out/x: cannot write: ",
		             strerror(codes[i]), NULL);
	}
}

/* Fails the test if the source calls `name` directly. */
static void refuse_call(const char *file, const char *source, const char *name)
{
	size_t length = strlen(name);
	for (const char *at = source; (at = strstr(at, name)); at += length) {
		bool starts = at == source || (!isalnum((unsigned char)at[-1]) && at[-1] != '_');
		if (starts && at[length] == '(')
			fail_msg("%s calls %s(), which belongs into disk.c", file, name);
	}
}

static void is_the_only_one_to_change_the_disk(void **state)
{
	(void)state;
	static const char *const calls[] = {
		"write", "pwrite", "writev", "fopen", "creat", "mkstemp", "fsync", "fdatasync",
		"syncfs", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
		"unlink", "unlinkat", "remove", "rmdir", "mkdir", "mkdirat", "truncate",
		"ftruncate", "fallocate", "copy_file_range", "sendfile", "ioctl", "chmod",
		"fchmod", "utimensat", "futimens",
	};
	DIR *room = opendir("lib/artifact");
	assert_non_null(room);
	int files = 0;
	for (struct dirent *e; (e = readdir(room));) {
		size_t length = strlen(e->d_name), size;
		char *source, name[PATH_BYTES];
		error err;
		if (length < 2 || strcmp(e->d_name + length - 2, ".c") != 0 ||
		    strcmp(e->d_name, "disk.c") == 0)
			continue;
		assert_true(join_path(name, sizeof name, "lib/artifact", e->d_name, &err));
		assert_true(read_file(name, 1 << 20, &source, &size, &err));
		for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
			refuse_call(name, source, calls[i]);
		if (strstr(source, "O_CREAT"))
			fail_msg("%s creates a file past disk.c", name);
		free(source);
		files++;
	}
	closedir(room);
	assert_true(files > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_call_is_counted, make, clean),
		cmocka_unit_test_setup_teardown(writes_all_of_it, make, clean),
		cmocka_unit_test_setup_teardown(writes_once_or_says_so, make, clean),
		cmocka_unit_test_setup_teardown(goes_on_after_an_interruption, make, clean),
		cmocka_unit_test_setup_teardown(never_opens_what_is_there, make, clean),
		cmocka_unit_test(calls_every_failure_the_environments),
		cmocka_unit_test(is_the_only_one_to_change_the_disk),
	};
	return cmocka_run_group_tests_name("lib/artifact/disk", tests, NULL, NULL);
}
