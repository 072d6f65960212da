/* The store: a result is there whole or not at all, whatever happens to whom. */
#include "lib/artifact/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tests/lib/artifact/faults.h"
#include "tests/support/expect_error.h"
#include "tests/support/processes.h"
#include "tests/support/temp_folder.h"

enum { OUTPUTS = 3, PIECE = 70000 };

static char folder[PATH_BYTES], place[PATH_BYTES];
static struct store store;

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(place, sizeof place, folder, "out/store", &err) &&
	       store_open(&store, place, &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	set_fault(FAULT_NONE, 0, 0);
	temp_folder_remove(folder);
	return 0;
}

static bool number_key(struct key *key, int number, struct digest *digest, error *err)
{
	static const struct digest sources = {
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	};
	*key = (struct key){ 0 };
	key_begin(key, "test", &sources);
	key_addf(key, "number", "%d", number);
	return key_digest(key, digest, err);
}

/* Computes and publishes result `number`: three objects, the first the same for
 * every number. */
static int publish_number(void *number)
{
	static const char *const names[OUTPUTS] = { "one", "two", "three" };
	int n = *(int *)number;
	struct output outputs[OUTPUTS];
	struct object_writer w;
	struct digest digest;
	struct key key;
	struct store s;
	char data[PIECE];
	error err = { 0 };
	bool ok = store_open(&s, place, &err);
	for (int i = 0; ok && i < OUTPUTS; i++) {
		memset(data, 'a' + i + (i ? n % 20 : 0), sizeof data);
		outputs[i].name = names[i];
		ok = object_begin(&w, &s, &err) && object_write(&w, data, sizeof data, &err) &&
		     object_write(&w, &n, i ? sizeof n : 0, &err) &&
		     object_commit(&w, &outputs[i], &err);
	}
	if (ok && number_key(&key, n, &digest, &err)) {
		ok = store_publish(&s, &key, outputs, OUTPUTS, &err);
		key_free(&key);
	}
	return ok ? 0 : err.code;
}

static bool find_number(int number, struct result *result)
{
	struct digest digest;
	struct key key;
	error err;
	bool found;
	assert_true(number_key(&key, number, &digest, &err));
	key_free(&key);
	assert_true(store_find(&store, &digest, result, &found, &err));
	return found;
}

static bool has_number(int number)
{
	struct result result;
	bool found = find_number(number, &result);
	result_free(&result);
	return found;
}

/* If result `number` is there, everything about it is right. */
static void check_number(int number)
{
	struct result result;
	if (!find_number(number, &result))
		return;
	assert_int_equal(result.count, OUTPUTS);
	for (size_t i = 0; i < result.count; i++) {
		struct digest digest;
		char path[PATH_BYTES];
		struct stat st;
		uint64_t bytes;
		error err;
		assert_true(store_object_path(&store, &result.outputs[i].digest, path, &err));
		assert_true(digest_file(path, &digest, &bytes, &err));
		assert_true(digest_equal(&digest, &result.outputs[i].digest));
		assert_int_equal(bytes, result.outputs[i].bytes);
		assert_int_equal(bytes, i ? PIECE + sizeof(int) : PIECE);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0444);
	}
	result_free(&result);
}

static int count_in(const char *name)
{
	char path[PATH_BYTES];
	error err;
	assert_true(join_path(path, sizeof path, place, name, &err));
	return count_entries(path);
}

static void path_of_output(int number, const char *name, char path[PATH_BYTES])
{
	struct result result;
	error err;
	assert_true(find_number(number, &result));
	assert_true(store_object_path(&store, &result_output(&result, name)->digest, path,
	                              &err));
	result_free(&result);
}

static void path_of_result(int number, const char *name, char path[PATH_BYTES])
{
	struct digest digest;
	struct key key;
	char of_key[PATH_BYTES];
	error err;
	assert_true(number_key(&key, number, &digest, &err));
	key_free(&key);
	assert_true(store_result_path(&store, &digest, of_key, &err));
	assert_true(join_path(path, PATH_BYTES, of_key, name, &err));
}

static void a_published_result_is_found(void **state)
{
	(void)state;
	int one = 1, two = 2;
	char path[PATH_BYTES], *data;
	size_t size;
	struct digest digest;
	struct key key;
	error err;
	assert_false(has_number(one));
	assert_int_equal(publish_number(&one), 0);
	assert_true(has_number(one));
	check_number(one);
	assert_false(has_number(two));
	assert_int_equal(publish_number(&two), 0);
	check_number(one);
	check_number(two);
	assert_int_equal(count_in("tmp"), 0);
	/* key.txt is the key's text. */
	assert_true(number_key(&key, one, &digest, &err));
	path_of_result(one, "key.txt", path);
	assert_true(read_file(path, 10000, &data, &size, &err));
	assert_string_equal(data, key.text.data);
	free(data);
	key_free(&key);
}

static void publishing_again_changes_nothing(void **state)
{
	(void)state;
	int one = 1;
	char object[PATH_BYTES], result[PATH_BYTES];
	struct stat before[2], after[2];
	assert_int_equal(publish_number(&one), 0);
	path_of_output(one, "two", object);
	path_of_result(one, "result.txt", result);
	assert_int_equal(stat(object, &before[0]) + stat(result, &before[1]), 0);
	assert_int_equal(publish_number(&one), 0);
	assert_int_equal(stat(object, &after[0]) + stat(result, &after[1]), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(before[i].st_ino, after[i].st_ino);
		assert_int_equal(before[i].st_ctim.tv_nsec, after[i].st_ctim.tv_nsec);
	}
	assert_int_equal(count_in("tmp"), 0);
}

static void a_missing_or_cut_object_is_a_miss(void **state)
{
	(void)state;
	int one = 1;
	char path[PATH_BYTES];
	assert_int_equal(publish_number(&one), 0);
	path_of_output(one, "three", path);
	assert_int_equal(unlink(path), 0);
	assert_false(has_number(one));
	assert_int_equal(publish_number(&one), 0);
	assert_true(has_number(one));
	assert_int_equal(chmod(path, 0644) + truncate(path, PIECE), 0);
	assert_false(has_number(one));
	assert_int_equal(publish_number(&one), 0);
	assert_true(has_number(one));
	check_number(one);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_false(has_number(one));
	assert_int_equal(publish_number(&one), 0);
	check_number(one);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0777), 0);
	assert_false(has_number(one));
}

static void a_damaged_result_is_a_miss(void **state)
{
	(void)state;
	int one = 1;
	char path[PATH_BYTES];
	struct stat st;
	assert_int_equal(publish_number(&one), 0);
	path_of_result(one, "result.txt", path);
	assert_int_equal(stat(path, &st), 0);
	for (off_t at = 0; at < st.st_size; at += 7) {
		unsigned char byte;
		int fd = open(path, O_RDWR);
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= (unsigned char)(1 << at % 8);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_false(has_number(one));
		byte ^= (unsigned char)(1 << at % 8);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
	}
	assert_true(has_number(one));
	assert_int_equal(truncate(path, 0), 0);
	assert_false(has_number(one));
	assert_int_equal(publish_number(&one), 0);
	assert_true(has_number(one));
	check_number(one);
}

static void a_damaged_object_is_moved_away_when_read(void **state)
{
	(void)state;
	int one = 1;
	char path[PATH_BYTES], *data;
	size_t size;
	struct result result;
	error err;
	assert_int_equal(publish_number(&one), 0);
	assert_true(find_number(one, &result));
	const struct digest digest = result_output(&result, "two")->digest;
	result_free(&result);
	assert_true(store_read(&store, &digest, PIECE + 100, &data, &size, &err));
	assert_int_equal(size, PIECE + sizeof(int));
	free(data);
	assert_false(store_read(&store, &digest, PIECE, &data, &size, &err));
	expect_error(&err, EXIT_BAD_INPUT, "at most", NULL);
	path_of_output(one, "two", path);
	assert_int_equal(chmod(path, 0644), 0);
	struct stat before;
	assert_int_equal(stat(path, &before), 0);
	int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "?", 1, 1000), 1);
	assert_int_equal(futimens(fd, (struct timespec[]){ before.st_atim, before.st_mtim }), 0);
	close(fd);
	assert_true(has_number(one)); /* same size and date: only reading tells */
	assert_false(store_read(&store, &digest, PIECE + 100, &data, &size, &err));
	assert_null(data);
	expect_error(&err, EXIT_ENVIRONMENT, path, "damaged", NULL);
	assert_int_equal(count_in("damaged"), 1);
	assert_false(has_number(one));
	assert_int_equal(publish_number(&one), 0);
	assert_true(store_read(&store, &digest, PIECE + 100, &data, &size, &err));
	free(data);
	check_number(one);
}

static void files_and_memory_become_objects(void **state)
{
	(void)state;
	static const char path[] = "demo/tiny-qwen2_5-vl/config.json";
	struct output from_file, from_memory;
	struct digest digest;
	uint64_t bytes;
	char *data;
	size_t size;
	error err;
	assert_true(digest_file(path, &digest, &bytes, &err));
	assert_true(store_add_file(&store, path, &from_file, &err));
	assert_true(digest_equal(&digest, &from_file.digest));
	assert_int_equal(bytes, from_file.bytes);
	assert_true(store_read(&store, &digest, 1 << 20, &data, &size, &err));
	assert_true(store_add_bytes(&store, data, size, &from_memory, &err));
	assert_true(digest_equal(&digest, &from_memory.digest));
	free(data);
	assert_true(store_add_bytes(&store, "", 0, &from_memory, &err));
	assert_int_equal(from_memory.bytes, 0);
	assert_int_equal(count_in("objects"), 2);
	assert_false(store_add_file(&store, "demo/absent", &from_file, &err));
	expect_error(&err, EXIT_BAD_INPUT, "demo/absent", NULL);
	assert_false(store_add_file(&store, "demo", &from_file, &err));
	expect_error(&err, EXIT_BAD_INPUT, "demo", NULL);
	assert_int_equal(count_in("tmp"), 0);
}

static void nothing_is_published_without_its_objects(void **state)
{
	(void)state;
	struct output absent = {
		"x", { "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }, 3
	};
	struct digest digest;
	struct key key;
	error err;
	assert_true(number_key(&key, 1, &digest, &err));
	assert_false(store_publish(&store, &key, &absent, 1, &err));
	expect_error(&err, EXIT_INTERNAL, absent.digest.hex, "'x'", NULL);
	assert_false(has_number(1));
	assert_true(store_add_bytes(&store, "abc", 3, &absent, &err));
	assert_true(store_publish(&store, &key, &absent, 1, &err));
	assert_true(has_number(1));
	key_free(&key);
}

static int publish_twenty(void *unused)
{
	(void)unused;
	for (int n = 0; n < 20; n++) {
		int answer = publish_number(&n);
		if (answer)
			return answer;
	}
	return 0;
}

static void eight_processes_publish_the_same(void **state)
{
	(void)state;
	pid_t children[8];
	for (size_t i = 0; i < 8; i++)
		children[i] = start_process(publish_twenty, NULL);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(wait_process(children[i]), 0);
	for (int n = 0; n < 20; n++) {
		assert_true(has_number(n));
		check_number(n);
	}
	assert_int_equal(count_in("tmp"), 0);
}

static int publish_on_and_on(void *first)
{
	for (int n = *(int *)first;; n++)
		if (publish_number(&n) != 0)
			return 1;
}

static void kills_at_random_leave_whole_results(void **state)
{
	(void)state;
	for (int round = 0; round < 50; round++) {
		int first = round * 5;
		pid_t child = start_process(publish_on_and_on, &first);
		usleep((unsigned)(round * 7919 % 12000));
		kill(child, SIGKILL);
		assert_int_equal(wait_process(child), -SIGKILL);
		for (int n = first; n < first + 40; n++)
			check_number(n);
	}
	int last = 100000;
	assert_int_equal(publish_number(&last), 0);
	assert_int_equal(count_in("tmp"), 0);
}

/* The k-th call that changes the disk is the last, or fails, for every k. */
static void every_faulty_call_leaves_whole_results(void **state)
{
	(void)state;
	const struct fault { enum fault_kind kind; int code; } all[] = {
		{ FAULT_KILL, 0 }, { FAULT_ERROR, EIO }, { FAULT_ERROR, ENOSPC },
		{ FAULT_ERROR, EROFS }, { FAULT_ERROR, EINTR }, { FAULT_SHORT_WRITE, 0 },
	};
	int n = 0;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		temp_folder_remove(place);
		int calls = count_calls(publish_number, &n);
		assert_true(calls > 30);
		for (int k = 1; k <= calls; k++) {
			temp_folder_remove(place);
			set_fault(all[i].kind, k, all[i].code);
			int answer = run_process(publish_number, &n);
			set_fault(FAULT_NONE, 0, 0);
			if (all[i].kind == FAULT_KILL)
				assert_int_equal(answer, -SIGKILL);
			if (all[i].kind == FAULT_ERROR && all[i].code != EINTR && answer != 0)
				assert_int_equal(answer, EXIT_ENVIRONMENT);
			if (all[i].kind == FAULT_SHORT_WRITE || all[i].code == EINTR)
				assert_int_equal(answer, 0);
			check_number(n);
			if (answer == 0)
				assert_true(has_number(n));
			assert_int_equal(publish_number(&n), 0);
			assert_true(has_number(n));
			check_number(n);
			assert_int_equal(count_in("tmp"), 0);
		}
	}
}

static int publish_over_the_limit(void *number)
{
	struct rlimit limit = { PIECE / 2, PIECE / 2 };
	signal(SIGXFSZ, SIG_IGN);
	return setrlimit(RLIMIT_FSIZE, &limit) == 0 ? publish_number(number) : 99;
}

static int publish_as_nobody(void *number)
{
	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		return 99;
	return publish_number(number);
}

static void disk_trouble_is_the_environments(void **state)
{
	(void)state;
	int one = 1;
	char file[PATH_BYTES];
	struct store other;
	error err;
	assert_int_equal(run_process(publish_over_the_limit, &one), EXIT_ENVIRONMENT);
	assert_false(has_number(one));
	assert_int_equal(count_in("tmp"), 0);
	assert_int_equal(chmod(folder, 0755), 0);
	assert_true(join_path(file, sizeof file, place, "tmp", &err));
	assert_int_equal(chmod(file, 0555), 0);
	assert_int_equal(run_process(publish_as_nobody, &one), EXIT_ENVIRONMENT);
	assert_true(join_path(file, sizeof file, folder, "file", &err));
	assert_true(temp_folder_write(folder, "file", "", 0, &err));
	assert_false(store_open(&other, file, &err));
	expect_error(&err, EXIT_ENVIRONMENT, file, "Not a directory", NULL);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(a_published_result_is_found),
		IN_FOLDER(publishing_again_changes_nothing),
		IN_FOLDER(a_missing_or_cut_object_is_a_miss),
		IN_FOLDER(a_damaged_result_is_a_miss),
		IN_FOLDER(a_damaged_object_is_moved_away_when_read),
		IN_FOLDER(files_and_memory_become_objects),
		IN_FOLDER(nothing_is_published_without_its_objects),
		IN_FOLDER(eight_processes_publish_the_same),
		IN_FOLDER(kills_at_random_leave_whole_results),
		IN_FOLDER(every_faulty_call_leaves_whole_results),
		IN_FOLDER(disk_trouble_is_the_environments),
	};
	return cmocka_run_group_tests_name("lib/artifact/store", tests, NULL, NULL);
}
