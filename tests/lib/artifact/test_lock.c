/* Locks between processes: exclusion, and that nothing outlives its holder. */
#include "lib/artifact/lock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/expect_error.h"
#include "tests/support/processes.h"
#include "tests/support/temp_folder.h"

enum { PROCESSES = 8, TURNS = 100 };

static char folder[PATH_BYTES], path[PATH_BYTES], counter[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(path, sizeof path, folder, "key.lock", &err) &&
	       join_path(counter, sizeof counter, folder, "counter", &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

/* Adds one to the number in the file, in a way that loses counts when two do it
 * at once. */
static bool count_one(void)
{
	int n = 0, fd = open(counter, O_RDWR | O_CREAT, 0666);
	bool ok = fd >= 0 && pread(fd, &n, sizeof n, 0) >= 0;
	n++;
	usleep(20);
	ok = ok && pwrite(fd, &n, sizeof n, 0) == sizeof n;
	close(fd);
	return ok;
}

static int count_in_turns(void *unused)
{
	(void)unused;
	for (int i = 0; i < TURNS; i++) {
		struct lock lock;
		error err;
		if (!lock_take(&lock, path, &err) || !count_one())
			return 1;
		lock_release(&lock);
	}
	return 0;
}

static void processes_take_turns(void **state)
{
	(void)state;
	pid_t children[PROCESSES];
	char *data;
	size_t size;
	error err;
	for (size_t i = 0; i < PROCESSES; i++)
		children[i] = start_process(count_in_turns, NULL);
	for (size_t i = 0; i < PROCESSES; i++)
		assert_int_equal(wait_process(children[i]), 0);
	assert_true(read_file(counter, 100, &data, &size, &err));
	assert_int_equal(*(int *)data, PROCESSES * TURNS);
	free(data);
	assert_int_equal(count_entries(folder), 1); /* no lock file stays */
}

static int hold_forever(void *ready)
{
	struct lock lock;
	error err;
	if (!lock_take(&lock, path, &err) || write(*(int *)ready, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

/* A child that holds the lock, and has said so. */
static pid_t start_holder(void)
{
	int ends[2];
	char byte;
	assert_int_equal(pipe(ends), 0);
	pid_t child = start_process(hold_forever, &ends[1]);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	return child;
}

static int take_and_release(void *unused)
{
	(void)unused;
	struct lock lock;
	error err;
	if (!lock_take(&lock, path, &err))
		return 1;
	lock_release(&lock);
	return 0;
}

static void a_killed_holder_frees_the_lock(void **state)
{
	(void)state;
	pid_t holder = start_holder();
	pid_t waiter = start_process(take_and_release, NULL);
	sleep_milliseconds(30);
	assert_int_equal(kill(waiter, 0), 0);
	assert_true(file_exists(path)); /* the waiter has not come by */
	kill(holder, SIGKILL);
	assert_int_equal(wait_process(holder), -SIGKILL);
	assert_int_equal(wait_process(waiter), 0);
	assert_false(file_exists(path));
}

/* Somebody cleans up the lock files: whoever waited on the removed one must not
 * share the lock with whoever made it anew. */
static void a_removed_lock_file_does_no_harm(void **state)
{
	(void)state;
	pid_t holder = start_holder();
	pid_t waiter = start_process(take_and_release, NULL);
	sleep_milliseconds(30);
	assert_int_equal(unlink(path), 0);
	struct lock lock;
	error err;
	assert_true(lock_take(&lock, path, &err)); /* a new file: free */
	kill(holder, SIGKILL);
	assert_int_equal(wait_process(holder), -SIGKILL);
	sleep_milliseconds(30);
	assert_true(file_exists(path)); /* the waiter waits, now for us */
	lock_release(&lock);
	assert_int_equal(wait_process(waiter), 0);
	lock_release(&lock); /* harmless */
	assert_int_equal(count_entries(folder), 0);
}

/* Exits with 10 + the slot it got. */
static int take_slot(void *slots)
{
	struct lock lock;
	int slot;
	error err;
	if (!slot_take(&lock, folder, "gpu", *(int *)slots, &slot, &err))
		return 1;
	lock_release(&lock);
	return 10 + slot;
}

static void slots_are_taken_one_each(void **state)
{
	(void)state;
	struct lock locks[3];
	int slots = 3;
	error err;
	for (int i = 0; i < slots; i++) {
		int slot;
		assert_true(slot_take(&locks[i], folder, "gpu", slots, &slot, &err));
		assert_int_equal(slot, i);
	}
	pid_t waiter = start_process(take_slot, &slots);
	sleep_milliseconds(60);
	assert_int_equal(count_entries(folder), 3);
	lock_release(&locks[1]);
	assert_int_equal(wait_process(waiter), 11);
	lock_release(&locks[2]);
	assert_int_equal(run_process(take_slot, &slots), 11);
	lock_release(&locks[0]);
	assert_int_equal(run_process(take_slot, &slots), 10);
	assert_int_equal(count_entries(folder), 0);
}

static void trouble_is_named(void **state)
{
	(void)state;
	char inside[PATH_BYTES];
	struct lock lock;
	int slot;
	error err;
	assert_true(temp_folder_write(folder, "counter", "", 0, &err));
	assert_true(join_path(inside, sizeof inside, counter, "x", &err));
	assert_false(lock_take(&lock, inside, &err));
	expect_error(&err, EXIT_ENVIRONMENT, inside, "Not a directory", NULL);
	lock_release(&lock);
	assert_false(slot_take(&lock, counter, "gpu", 2, &slot, &err));
	expect_error(&err, EXIT_ENVIRONMENT, counter, "Not a directory", NULL);
	assert_false(slot_take(&lock, folder, "gpu", 0, &slot, &err));
	expect_error(&err, EXIT_INTERNAL, "at least one slot", NULL);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(processes_take_turns),
		IN_FOLDER(a_killed_holder_frees_the_lock),
		IN_FOLDER(a_removed_lock_file_does_no_harm),
		IN_FOLDER(slots_are_taken_one_each),
		IN_FOLDER(trouble_is_named),
	};
	return cmocka_run_group_tests_name("lib/artifact/lock", tests, NULL, NULL);
}
