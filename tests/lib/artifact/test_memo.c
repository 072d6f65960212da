/* The memo: fast when nothing changed, and never wrong. */
#include "lib/artifact/memo.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/expect_error.h"
#include "tests/support/processes.h"
#include "tests/support/temp_folder.h"

enum { MANY = 100 };

static char folder[PATH_BYTES], file[PATH_BYTES], memo_file[PATH_BYTES];

/* The clock of this program, so that files grow old without waiting. */
static time_t clock_offset;

int clock_gettime(clockid_t id, struct timespec *now)
{
	int result = (int)syscall(SYS_clock_gettime, id, now);
	if (id == CLOCK_REALTIME)
		now->tv_sec += clock_offset;
	return result;
}

/* How often reading still changes the file that is read. */
static int changes_left;

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
	ssize_t n = syscall(SYS_pread64, fd, data, size, at);
	int saved = errno;
	if (changes_left > 0) {
		changes_left--;
		struct timespec times[2] = { { 0, UTIME_OMIT }, { 1000 + changes_left, 0 } };
		utimensat(AT_FDCWD, file, times, 0);
	}
	errno = saved;
	return n;
}

static int make(void **state)
{
	(void)state;
	error err;
	clock_offset = 10;
	return temp_folder_make(folder, &err) &&
	       join_path(file, sizeof file, folder, "file", &err) &&
	       join_path(memo_file, sizeof memo_file, folder, "state/memo.db", &err) &&
	       temp_folder_write(folder, "file", "one", 3, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	clock_offset = 0;
	changes_left = 0;
	temp_folder_remove(folder);
	return 0;
}

static struct memo *open_memo(void)
{
	error err;
	struct memo *m = memo_open(memo_file, &err);
	if (!m)
		fail_msg("%s", err.text);
	return m;
}

/* Asks for the file's digest and checks it; whether it was known. */
static bool knows(struct memo *m)
{
	struct digest by_memo, right;
	struct memo_counts before = memo_counts(m);
	uint64_t bytes;
	error err;
	if (!memo_digest(m, file, &by_memo, &err) || !digest_file(file, &right, &bytes, &err))
		fail_msg("%s", err.text);
	assert_true(digest_equal(&by_memo, &right));
	struct memo_counts after = memo_counts(m);
	assert_int_equal(after.files_known + after.files_hashed,
	                 before.files_known + before.files_hashed + 1);
	assert_int_equal(after.bytes_hashed - before.bytes_hashed,
	                 after.files_known > before.files_known ? 0 : bytes);
	return after.files_known > before.files_known;
}

/* A process that asks once: whether the file was known to it. */
static bool known_to_the_next_process(void)
{
	struct memo *m = open_memo();
	bool known = knows(m);
	memo_close(m);
	return known;
}

static void set_mtime(struct timespec mtime)
{
	struct timespec times[2] = { { 0, UTIME_OMIT }, mtime };
	assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
}

static void write_in_place(const char *content)
{
	int fd = open(file, O_WRONLY | O_TRUNC);
	ssize_t size = (ssize_t)strlen(content);
	assert_int_equal(write(fd, content, (size_t)size), size);
	close(fd);
}

static void remembers_across_processes(void **state)
{
	(void)state;
	struct memo *m = open_memo();
	assert_false(knows(m));
	assert_true(knows(m));
	memo_close(m);
	assert_true(known_to_the_next_process());
}

/* Same size, and the mtime put back: cp -p, tar, touch -d. */
static void notices_a_change_that_keeps_size_and_mtime(void **state)
{
	(void)state;
	struct stat before, after;
	struct memo *m = open_memo();
	assert_false(knows(m));
	assert_int_equal(stat(file, &before), 0);
	sleep_milliseconds(20); /* longer than the kernel's clock ticks */
	write_in_place("two");
	set_mtime(before.st_mtim);
	assert_int_equal(stat(file, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	assert_false(knows(m));
	assert_true(knows(m));
	/* An older mtime. */
	write_in_place("six");
	set_mtime((struct timespec){ 1000, 0 });
	assert_false(knows(m));
	/* Another file moved over it, older, of the same size. */
	char other[PATH_BYTES];
	error err;
	assert_true(join_path(other, sizeof other, folder, "other", &err));
	assert_true(temp_folder_write(folder, "other", "ten", 3, &err));
	assert_int_equal(rename(other, file), 0);
	set_mtime((struct timespec){ 1000, 0 });
	assert_false(knows(m));
	memo_close(m);
}

/* A touch costs a hashing and gives the same digest. */
static void hashes_a_touched_file_once(void **state)
{
	(void)state;
	struct memo *m = open_memo();
	assert_false(knows(m));
	sleep_milliseconds(20);
	assert_int_equal(utimensat(AT_FDCWD, file, NULL, 0), 0);
	assert_false(knows(m));
	assert_true(knows(m));
	memo_close(m);
}

static void does_not_trust_the_young(void **state)
{
	(void)state;
	struct memo *m = open_memo();
	clock_offset = 0;
	assert_false(knows(m));
	assert_false(knows(m));
	/* The racy case itself: changed again within the same tick. */
	for (int i = 0; i < 50; i++) {
		write_in_place(i % 2 ? "abc" : "xyz");
		assert_false(knows(m));
	}
	/* Nor when the mtime is old. */
	for (int i = 0; i < 50; i++) {
		write_in_place(i % 2 ? "def" : "uvw");
		set_mtime((struct timespec){ 1000, 0 });
		assert_false(knows(m));
	}
	clock_offset = 1;
	assert_false(knows(m));
	clock_offset = 3;
	assert_false(knows(m)); /* nothing was kept while it was young */
	assert_true(knows(m));
	clock_offset = 1;
	assert_false(knows(m)); /* what is kept is not believed either */
	memo_close(m);
}

static void survives_clock_games(void **state)
{
	(void)state;
	struct memo *m = open_memo();
	struct timespec now;
	time_t hour = 3600;
	assert_false(knows(m));
	assert_true(knows(m));
	clock_offset = -24 * hour; /* set back: the file is of the future */
	assert_false(knows(m));
	clock_offset = 10;
	assert_true(knows(m));
	assert_int_equal(syscall(SYS_clock_gettime, CLOCK_REALTIME, &now), 0);
	set_mtime((struct timespec){ now.tv_sec + hour, 0 });
	assert_false(knows(m));
	assert_false(knows(m));
	clock_offset = 2 * hour;
	assert_false(knows(m));
	assert_true(knows(m));
	set_mtime((struct timespec){ 0, 0 });
	assert_false(knows(m));
	assert_true(knows(m));
	set_mtime((struct timespec){ -86400, 999999999 });
	assert_false(knows(m));
	assert_true(knows(m));
	memo_close(m);
}

static void hashes_again_what_changed_meanwhile(void **state)
{
	(void)state;
	struct memo *m = open_memo();
	struct digest d;
	error err;
	changes_left = 1;
	if (!memo_digest(m, file, &d, &err))
		fail_msg("%s", err.text);
	assert_int_equal(memo_counts(m).files_hashed, 2);
	set_mtime((struct timespec){ 5, 0 });
	changes_left = 1000;
	assert_false(memo_digest(m, file, &d, &err));
	expect_error(&err, EXIT_BAD_INPUT, file, "changing while it was read", NULL);
	memo_close(m);
}

static void checks_an_input_after_its_use(void **state)
{
	(void)state;
	struct memo *m = open_memo();
	struct digest d;
	error err;
	assert_true(memo_digest(m, file, &d, &err));
	assert_true(memo_check(m, file, &d, &err));
	sleep_milliseconds(20);
	write_in_place("two");
	assert_false(memo_check(m, file, &d, &err));
	expect_error(&err, EXIT_BAD_INPUT, file, "changed while it was used", d.hex, NULL);
	assert_int_equal(unlink(file), 0);
	assert_false(memo_check(m, file, &d, &err));
	expect_error(&err, EXIT_BAD_INPUT, file, "No such file", NULL);
	assert_false(memo_digest(m, folder, &d, &err));
	expect_error(&err, EXIT_BAD_INPUT, folder, "found a folder", NULL);
	memo_close(m);
}

static void put_memo_bytes(const char *data, size_t size)
{
	error err;
	if (!temp_folder_write(folder, "state/memo.db", data, size, &err))
		fail_msg("%s", err.text);
}

static void starts_over_with_a_damaged_file(void **state)
{
	(void)state;
	char damaged[PATH_BYTES], *whole;
	size_t size;
	error err;
	assert_true(join_path(damaged, sizeof damaged, folder, "state/memo.db.damaged", &err));
	assert_false(known_to_the_next_process());
	assert_true(known_to_the_next_process());
	assert_true(read_file(memo_file, 1 << 20, &whole, &size, &err));

	put_memo_bytes("not a database, but long enough to be taken for one ...........", 64);
	assert_false(known_to_the_next_process());
	assert_true(file_exists(damaged));
	assert_true(known_to_the_next_process());

	put_memo_bytes(whole, size / 2 + 100);
	known_to_the_next_process();
	assert_true(known_to_the_next_process());
	put_memo_bytes("", 0);
	assert_false(known_to_the_next_process());
	assert_true(known_to_the_next_process());

	/* Damaged while it is open. */
	struct memo *m = open_memo();
	assert_true(knows(m));
	char *noise = malloc(size);
	assert_non_null(noise);
	memset(noise, 0xa5, size);
	put_memo_bytes(noise, size);
	free(noise);
	knows(m);
	set_mtime((struct timespec){ 5000, 0 });
	assert_false(knows(m));
	memo_close(m);
	known_to_the_next_process();
	assert_true(known_to_the_next_process());
	free(whole);
}

/* Whatever bit flips, the answer is right (knows() checks that), at once or
 * after starting over; and the memo goes on to remember. */
static void no_flipped_bit_gives_a_wrong_digest(void **state)
{
	(void)state;
	char *data;
	size_t size;
	error err;
	known_to_the_next_process();
	assert_true(read_file(memo_file, 1 << 20, &data, &size, &err));
	int rejected = 0;
	for (size_t at = 0; at < size; at++) {
		if (data[at] == 0 && at >= 128 && at % 131)
			continue; /* most of the file is empty */
		int bit = (int)(at * 5 % 8);
		data[at] ^= (char)(1 << bit);
		put_memo_bytes(data, size);
		data[at] ^= (char)(1 << bit);
		rejected += !known_to_the_next_process();
		if (!known_to_the_next_process())
			fail_msg("byte %zu, bit %d: nothing is remembered any more", at, bit);
	}
	free(data);
	assert_true(rejected > 128); /* digest and seal alone have as many bytes */
}

/* Three rounds over the many files; whether all digests were right. */
static bool digest_many(struct memo *m)
{
	error err;
	bool ok = true;
	for (int i = 0; ok && i < 3 * MANY; i++) {
		char path[PATH_BYTES], name[16];
		struct digest d, right;
		uint64_t bytes;
		snprintf(name, sizeof name, "%d", i % MANY);
		ok = join_path(path, sizeof path, folder, name, &err) &&
		     memo_digest(m, path, &d, &err) && digest_file(path, &right, &bytes, &err) &&
		     digest_equal(&d, &right);
	}
	return ok;
}

static int digest_many_alone(void *unused)
{
	(void)unused;
	error err;
	struct memo *m = memo_open(memo_file, &err);
	bool ok = m && digest_many(m);
	memo_close(m);
	return ok ? 0 : 1;
}

static void *digest_many_together(void *memo)
{
	return digest_many(memo) ? memo : NULL;
}

static void make_many(void)
{
	for (int i = 0; i < MANY; i++) {
		char name[16];
		error err;
		snprintf(name, sizeof name, "%d", i);
		assert_true(temp_folder_write(folder, name, name, strlen(name), &err));
	}
}

static void eight_processes_share_one_file(void **state)
{
	(void)state;
	pid_t children[8];
	make_many();
	for (size_t i = 0; i < 8; i++)
		children[i] = start_process(digest_many_alone, NULL);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(wait_process(children[i]), 0);
	assert_false(known_to_the_next_process());
	assert_true(known_to_the_next_process());
}

static void four_threads_share_one_memo(void **state)
{
	(void)state;
	pthread_t threads[4];
	struct memo *m = open_memo();
	make_many();
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, digest_many_together, m), 0);
	for (size_t i = 0; i < 4; i++) {
		void *answer;
		assert_int_equal(pthread_join(threads[i], &answer), 0);
		assert_ptr_equal(answer, m);
	}
	struct memo_counts counts = memo_counts(m);
	assert_int_equal(counts.files_known + counts.files_hashed, 4 * 3 * MANY);
	assert_true(counts.files_hashed >= MANY && counts.files_hashed <= 4 * MANY);
	memo_close(m);
}

/* One that is known, one that is not, one that is not there. */
static void digests_many_files_at_once(void **state)
{
	(void)state;
	char paths[MANY + 1][PATH_BYTES + 16];
	struct memo_file files[MANY + 1];
	error err;
	make_many();
	struct memo *m = open_memo();
	for (int i = 0; i <= MANY; i++) {
		snprintf(paths[i], sizeof paths[i], "%s/%d", folder, i);
		files[i] = (struct memo_file){ .path = paths[i] };
	}
	for (int round = 0; round < 2; round++) {
		memo_hold(m);
		assert_true(memo_digest_many(m, files, MANY + 1, &err));
		assert_false(files[MANY].readable);
		for (int i = 0; i < MANY; i++) {
			char name[16];
			struct digest expected;
			int size = snprintf(name, sizeof name, "%d", i);
			assert_true(digest_bytes(name, (size_t)size, &expected, &err));
			assert_true(files[i].readable && digest_equal(&files[i].digest, &expected));
		}
		assert_int_equal(memo_counts(m).files_hashed, MANY);
	}
	assert_true(memo_digest_many(m, files, 0, &err));
	memo_close(m);
}

/* Milliseconds to open the memo and look MANY files up. */
static double time_lookups(void)
{
	struct timespec from, to;
	error err;
	clock_gettime(CLOCK_MONOTONIC, &from);
	struct memo *m = open_memo();
	for (int i = 0; i < MANY; i++) {
		char path[PATH_BYTES + 16];
		struct digest d;
		snprintf(path, sizeof path, "%s/%d", folder, i);
		assert_true(memo_digest(m, path, &d, &err));
	}
	memo_close(m);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return (double)(to.tv_sec - from.tv_sec) * 1e3 +
	       (double)(to.tv_nsec - from.tv_nsec) * 1e-6;
}

static void looks_up_a_hundred_files_in_five_milliseconds(void **state)
{
	(void)state;
	make_many();
	time_lookups();
	double best = 1e9;
	for (int i = 0; i < 20; i++) {
		double t = time_lookups();
		best = t < best ? t : best;
	}
	print_message("opening and %d lookups: %.2f ms\n", MANY, best);
	assert_true(best <= 5);
}

static void names_a_place_that_cannot_be(void **state)
{
	(void)state;
	char path[PATH_BYTES];
	error err;
	assert_true(join_path(path, sizeof path, file, "memo.db", &err));
	assert_null(memo_open(path, &err));
	expect_error(&err, EXIT_ENVIRONMENT, file, NULL);
	assert_null(memo_open(folder, &err));
	expect_error(&err, EXIT_ENVIRONMENT, folder, "memo", NULL);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(remembers_across_processes),
		IN_FOLDER(notices_a_change_that_keeps_size_and_mtime),
		IN_FOLDER(hashes_a_touched_file_once),
		IN_FOLDER(does_not_trust_the_young),
		IN_FOLDER(survives_clock_games),
		IN_FOLDER(hashes_again_what_changed_meanwhile),
		IN_FOLDER(checks_an_input_after_its_use),
		IN_FOLDER(starts_over_with_a_damaged_file),
		IN_FOLDER(no_flipped_bit_gives_a_wrong_digest),
		IN_FOLDER(eight_processes_share_one_file),
		IN_FOLDER(four_threads_share_one_memo),
		IN_FOLDER(digests_many_files_at_once),
		IN_FOLDER(looks_up_a_hundred_files_in_five_milliseconds),
		IN_FOLDER(names_a_place_that_cannot_be),
	};
	return cmocka_run_group_tests_name("lib/artifact/memo", tests, NULL, NULL);
}
