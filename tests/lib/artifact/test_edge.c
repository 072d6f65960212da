/* Edges: a key is computed once, by whoever comes first and lives. */
#include "lib/artifact/edge.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/json.h"
#include "tests/support/expect_error.h"
#include "tests/support/processes.h"
#include "tests/support/temp_folder.h"

enum { PROCESSES = 8, KEYS = 10 };

static char folder[PATH_BYTES], out[PATH_BYTES], computed[PATH_BYTES];

static int make(void **state)
{
	(void)state;
	error err;
	return temp_folder_make(folder, &err) &&
	       join_path(out, sizeof out, folder, "out", &err) &&
	       join_path(computed, sizeof computed, folder, "computed", &err) ? 0 : -1;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

static void make_key(struct key *key, int number)
{
	static const struct digest sources = {
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	};
	*key = (struct key){ 0 };
	key_begin(key, "add", &sources);
	key_addf(key, "number", "%d", number);
}

/* The work: leaves a byte in `computed` for each time that it was done. */
static bool compute(struct edge *e, int number, error *err)
{
	struct output output = { .name = "sum" };
	char data[32];
	int fd = open(computed, O_WRONLY | O_CREAT | O_APPEND, 0666);
	bool ok = fd >= 0 && write(fd, "x", 1) == 1;
	close(fd);
	usleep(2000);
	int size = snprintf(data, sizeof data, "%d", number + number);
	return ok && store_add_bytes(&e->store, data, (size_t)size, &output, err) &&
	       edge_publish(e, &output, 1, err);
}

/* A whole tool. Its exit code; 50 if the result is not what it should be. */
static int run_edge(int number, bool *hit)
{
	struct key key;
	struct edge e;
	error err = { 0 };
	char *data = NULL, expected[32];
	size_t size;
	make_key(&key, number);
	bool ok = edge_begin(&e, out, "add", "a \"sum\"\n", &key, &err);
	if (ok) {
		*hit = e.hit;
		ok = (e.hit || compute(&e, number, &err)) && e.result.count == 1 &&
		     store_read(&e.store, &e.result.outputs[0].digest, 100, &data, &size, &err) &&
		     edge_log(&e, e.hit ? 0 : size, &err);
	}
	edge_end(&e);
	key_free(&key);
	snprintf(expected, sizeof expected, "%d", number + number);
	int answer = !ok ? (int)err.code : strcmp(data, expected) == 0 ? 0 : 50;
	free(data);
	return answer;
}

static int times_computed(void)
{
	char *data;
	size_t size;
	error err;
	if (!read_file(computed, 1 << 20, &data, &size, &err))
		return 0;
	free(data);
	return (int)size;
}

static void misses_once_then_hits(void **state)
{
	(void)state;
	bool hit;
	char path[PATH_BYTES];
	error err;
	assert_int_equal(run_edge(1, &hit), 0);
	assert_false(hit);
	assert_int_equal(run_edge(1, &hit), 0);
	assert_true(hit);
	assert_int_equal(run_edge(2, &hit), 0);
	assert_false(hit);
	assert_int_equal(times_computed(), 2);
	assert_true(join_path(path, sizeof path, out, "store/locks", &err));
	assert_int_equal(count_entries(path), 0);
}

static void logs_a_line_of_json_an_edge(void **state)
{
	(void)state;
	char path[PATH_BYTES], *lines, *line, *rest;
	size_t size;
	bool hit;
	error err;
	for (int i = 0; i < 2; i++)
		assert_int_equal(run_edge(21, &hit), 0);
	assert_true(join_path(path, sizeof path, out, "log/edges.jsonl", &err));
	assert_true(read_file(path, 1 << 20, &lines, &size, &err));
	int count = 0;
	for (line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		json_doc doc;
		const char *tool, *target, *key;
		double seconds = 0;
		int64_t bytes = -1;
		if (!json_parse(&doc, path, line, strlen(line), &err) ||
		    !json_text(&doc, doc.root, "tool", &tool, &err) ||
		    !json_text(&doc, doc.root, "target", &target, &err) ||
		    !json_text(&doc, doc.root, "key", &key, &err) ||
		    !json_boolean(&doc, doc.root, "hit", &hit, &err) ||
		    !json_number(&doc, doc.root, "seconds", 0, 10, &seconds, &err) ||
		    !json_integer(&doc, doc.root, "bytes", 0, 100, &bytes, &err))
			fail_msg("%s", err.text);
		assert_string_equal(tool, "add");
		assert_string_equal(target, "a \"sum\"\n");
		assert_int_equal(strlen(key), DIGEST_HEX);
		assert_int_equal(hit, count == 1);
		assert_int_equal(bytes, count == 0 ? 2 : 0);
		assert_true(count == 1 || seconds >= 0.002);
		json_free(&doc);
		count++;
	}
	assert_int_equal(count, 2);
	free(lines);
}

static int run_all_keys(void *unused)
{
	(void)unused;
	bool hit;
	for (int i = 0; i < KEYS; i++) {
		int answer = run_edge(i, &hit);
		if (answer)
			return answer;
	}
	return 0;
}

static void processes_compute_a_key_once(void **state)
{
	(void)state;
	pid_t children[PROCESSES];
	char path[PATH_BYTES], *lines;
	size_t size;
	error err;
	for (size_t i = 0; i < PROCESSES; i++)
		children[i] = start_process(run_all_keys, NULL);
	for (size_t i = 0; i < PROCESSES; i++)
		assert_int_equal(wait_process(children[i]), 0);
	assert_int_equal(times_computed(), KEYS);
	assert_true(join_path(path, sizeof path, out, "log/edges.jsonl", &err));
	assert_true(read_file(path, 1 << 20, &lines, &size, &err));
	int count = 0;
	for (size_t i = 0; i < size; i++)
		count += lines[i] == '\n';
	free(lines);
	assert_int_equal(count, PROCESSES * KEYS);
}

static int die_computing(void *ready)
{
	struct key key;
	struct edge e;
	error err;
	make_key(&key, 7);
	if (!edge_begin(&e, out, "add", "", &key, &err) || e.hit ||
	    write(*(int *)ready, "x", 1) != 1)
		return 1;
	for (;;)
		pause();
}

static int run_seven(void *unused)
{
	(void)unused;
	bool hit;
	int answer = run_edge(7, &hit);
	return answer ? answer : hit ? 60 : 0;
}

static void the_next_computes_what_a_killed_one_did_not(void **state)
{
	(void)state;
	int ends[2];
	char byte;
	assert_int_equal(pipe(ends), 0);
	pid_t dying = start_process(die_computing, &ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
	pid_t next = start_process(run_seven, NULL);
	sleep_milliseconds(30);
	assert_int_equal(times_computed(), 0); /* it waits */
	kill(dying, SIGKILL);
	assert_int_equal(wait_process(dying), -SIGKILL);
	assert_int_equal(wait_process(next), 0);
	assert_int_equal(times_computed(), 1);
}

static void trouble_leaves_nothing_to_free(void **state)
{
	(void)state;
	struct key key;
	struct edge e;
	char inside[PATH_BYTES];
	error err;
	make_key(&key, 1);
	assert_true(temp_folder_write(folder, "computed", "", 0, &err));
	assert_true(join_path(inside, sizeof inside, computed, "out", &err));
	assert_false(edge_begin(&e, inside, "add", "", &key, &err));
	expect_error(&err, EXIT_ENVIRONMENT, inside, "Not a directory", NULL);
	edge_end(&e);
	key_free(&key);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(misses_once_then_hits),
		IN_FOLDER(logs_a_line_of_json_an_edge),
		IN_FOLDER(processes_compute_a_key_once),
		IN_FOLDER(the_next_computes_what_a_killed_one_did_not),
		IN_FOLDER(trouble_leaves_nothing_to_free),
	};
	return cmocka_run_group_tests_name("lib/artifact/edge", tests, NULL, NULL);
}
