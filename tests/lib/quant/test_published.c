/* Published checkpoints, looked at in every build. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/artifact/card.h"
#include "lib/quant/published.h"
#include "tests/support/temp_folder.h"

#include <cmocka.h>

static char folder[PATH_BYTES], checkpoint[PATH_BYTES], looks[PATH_BYTES];
static struct stat now;

static const char list[] = "{\"config.json\": {\"bytes\": 2}, \"a.plain\": {\"bytes\": 5}, "
			   "\"layer-sensitivity/ranking.md\": {\"bytes\": 7}}";
static const struct digest piece = {
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
};

static void path_of(const char *name, char path[PATH_BYTES])
{
	error err;
	assert_true(join_path(path, PATH_BYTES, folder, name, &err));
}

static void put(const char *name, const char *content)
{
	error err;
	assert_true(temp_folder_write(folder, name, content, strlen(content), &err));
}

/* The card names the list, and has its seal. */
static void put_card(void)
{
	struct digest digest;
	text card = { 0 };
	error err;
	assert_true(digest_bytes(list, strlen(list), &digest, &err));
	text_printf(&card, "%s\n", digest.hex);
	assert_true(card_seal(&card, &err));
	put("half/README.md", card.data);
	text_free(&card);
}

/* Everything that was done lies `seconds` back; the clock says now. */
static void date(const char *name, int seconds)
{
	char path[PATH_BYTES];
	struct timespec times[2];
	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= seconds;
	times[1] = times[0];
	path_of(name, path);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* ctimes cannot be set, so the clock is: a minute from now all is settled. */
static void set_clock(void)
{
	assert_int_equal(stat(folder, &now), 0);
	now.st_mtim.tv_sec += 60;
}

static int make(void **state)
{
	(void)state;
	char from[PATH_BYTES], to[PATH_BYTES];
	error err;
	if (!temp_folder_make(folder, &err))
		return -1;
	path_of("half", checkpoint);
	path_of("looks", looks);
	assert_int_equal(mkdir(checkpoint, 0777), 0);
	path_of("half/layer-sensitivity", to);
	assert_int_equal(mkdir(to, 0777), 0);
	put("object", "piece");
	put("half/config.json", "{}");
	put("half/layer-sensitivity/ranking.md", "ranking");
	date("object", 20);
	date("half/config.json", 20);
	date("half/layer-sensitivity/ranking.md", 20);
	path_of("object", from);
	path_of("half/a.plain", to);
	assert_int_equal(link(from, to), 0);
	put("half/layer-sensitivity/half_files.json", list);
	date("half/layer-sensitivity/half_files.json", 10);
	put_card();
	date("half/README.md", 20);
	set_clock();
	return 0;
}

static int clean(void **state)
{
	(void)state;
	temp_folder_remove(folder);
	return 0;
}

/* Looks as a build does; whether the look of the build before was enough. */
static bool check(bool piece_is_whole, const char *expected)
{
	struct published p;
	struct stat st;
	char path[PATH_BYTES];
	const char *damage;
	error err;
	path_of("object", path);
	assert_true(published_open(&p, looks, &err));
	if (piece_is_whole) {
		assert_int_equal(stat(path, &st), 0);
		assert_true(published_add_piece(&p, &st, &piece, &err));
	}
	assert_true(published_check(&p, checkpoint, "half", &now, &damage, &err));
	if (expected)
		assert_string_equal(damage, expected);
	else
		assert_null(damage);
	assert_true(published_keep(&p, &err));
	bool enough = p.same == 1;
	published_close(&p);
	return enough;
}

static void compares_once(void **state)
{
	(void)state;
	assert_false(check(true, NULL));
	assert_true(check(true, NULL));
	assert_true(check(true, NULL));
}

static void finds_what_was_written_to(void **state)
{
	(void)state;
	check(true, NULL);
	put("half/config.json", "[]");
	assert_false(check(true, "config.json"));
	assert_false(check(true, "config.json"));
	date("half/config.json", 20);
	assert_false(check(true, NULL));
	put("half/layer-sensitivity/ranking.md", "rankings");
	date("half/layer-sensitivity/ranking.md", 20);
	check(true, "layer-sensitivity/ranking.md");
}

static void finds_what_is_gone_or_replaced(void **state)
{
	(void)state;
	char path[PATH_BYTES], other[PATH_BYTES];
	check(true, NULL);
	path_of("half/a.plain", path);
	assert_int_equal(unlink(path), 0);
	assert_false(check(true, "a.plain"));
	put("other", "longer than the piece");
	date("other", 20);
	path_of("other", other);
	assert_int_equal(rename(other, path), 0);
	check(true, "a.plain");
}

/* A linked file is looked at by itself where its piece is not known to be whole. */
static void knows_pieces_by_what_they_are(void **state)
{
	(void)state;
	check(true, NULL);
	assert_false(check(false, NULL));
	put("object", "PIECE");
	check(false, "a.plain");
}

static void a_list_that_moved_or_cannot_be_read(void **state)
{
	(void)state;
	check(true, NULL);
	put("half/layer-sensitivity/half_files.json", "{");
	date("half/layer-sensitivity/half_files.json", 10);
	check(true, "half");
	date("half/layer-sensitivity/half_files.json", -1000);
	check(true, "half");
}

/* A folder without its list is not as published; no folder is not published. */
static void a_list_that_is_gone(void **state)
{
	(void)state;
	char path[PATH_BYTES];
	path_of("half/layer-sensitivity/half_files.json", path);
	assert_int_equal(unlink(path), 0);
	check(true, "layer-sensitivity");
	path_of("another", checkpoint);
	check(true, NULL);
}

/* A folder that changed a moment ago may change again and keep its dates. */
static void trusts_no_young_folder(void **state)
{
	(void)state;
	assert_int_equal(stat(folder, &now), 0);
	check(true, NULL);
	assert_false(check(true, NULL));
}

static void damaged_looks_help_nobody(void **state)
{
	(void)state;
	char content[4096];
	check(true, NULL);
	int fd = open(looks, O_RDONLY);
	ssize_t size = read(fd, content, sizeof content);
	close(fd);
	assert_true(size > 64 && size < (ssize_t)sizeof content);
	for (ssize_t i = 0; i < size; i++) {
		error err;
		content[i] ^= 4;
		assert_true(temp_folder_write(folder, "looks", content, (size_t)size, &err));
		assert_false(check(true, NULL));
		content[i] ^= 4;
		assert_true(temp_folder_write(folder, "looks", content, (size_t)i, &err));
		assert_false(check(true, NULL));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(compares_once, make, clean),
		cmocka_unit_test_setup_teardown(finds_what_was_written_to, make, clean),
		cmocka_unit_test_setup_teardown(finds_what_is_gone_or_replaced, make, clean),
		cmocka_unit_test_setup_teardown(knows_pieces_by_what_they_are, make, clean),
		cmocka_unit_test_setup_teardown(a_list_that_moved_or_cannot_be_read, make, clean),
		cmocka_unit_test_setup_teardown(a_list_that_is_gone, make, clean),
		cmocka_unit_test_setup_teardown(trusts_no_young_folder, make, clean),
		cmocka_unit_test_setup_teardown(damaged_looks_help_nobody, make, clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
