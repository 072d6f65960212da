/* Digests of a published folder; see verify_files.h. */
#include "lib/quant/verify_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/artifact/card.h"
#include "lib/artifact/digest.h"
#include "lib/artifact/disk.h"
#include "lib/base/file.h"
#include "lib/quant/checkpoint_draft.h"

enum { MAX_LIST_BYTES = 64 << 20 };

static bool has_suffix(const char *name, const char *suffix)
{
	size_t length = strlen(name), tail = strlen(suffix);
	return length >= tail && strcmp(name + length - tail, suffix) == 0;
}

/* The one file list in the sensitivity folder; its path relative to `folder`. */
static bool find_list(const char *folder, char *name, size_t size, error *err)
{
	char path[PATH_BYTES];
	struct dirent *entry;
	int found = 0;
	if (!join_path(path, sizeof path, folder, SENSITIVITY_FOLDER, err))
		return false;
	DIR *dir = opendir(path);
	if (!dir)
		return fail_errno(err, errno, "%s: cannot open", path);
	while ((entry = readdir(dir)))
		if (has_suffix(entry->d_name, FILES_SUFFIX) && ++found == 1)
			snprintf(name, size, SENSITIVITY_FOLDER "/%s", entry->d_name);
	closedir(dir);
	return found == 1 || fail(err, EXIT_BAD_INPUT,
	                          "%s: expected one list of files (*" FILES_SUFFIX
	                          "), found %d", path, found);
}

bool find_file_list(const char *folder, char *path, size_t size, error *err)
{
	char name[PATH_BYTES];
	return find_list(folder, name, sizeof name, err) &&
	       join_path(path, size, folder, name, err);
}

static bool verify_file(const json_doc *list, const char *folder, const cJSON *entry,
                        int64_t *total, error *err)
{
	char path[PATH_BYTES];
	const char *expected;
	int64_t bytes;
	struct digest digest;
	uint64_t found;
	if (!cJSON_IsObject(entry) || strstr(entry->string, "..") || entry->string[0] == '/')
		return json_fail(list, entry, err, "expected a file of this folder");
	if (!json_text(list, entry, "sha256", &expected, err) ||
	    !json_integer(list, entry, "bytes", 0, INT64_MAX, &bytes, err) ||
	    !join_path(path, sizeof path, folder, entry->string, err) ||
	    !digest_file(path, &digest, &found, err))
		return false;
	if ((int64_t)found == bytes && strcmp(digest.hex, expected) == 0) {
		*total += bytes;
		return true;
	}
	/* Bytes that went bad by themselves leave no trace in a date: now the next build
	 * sees that the file is not as it was published, and makes it anew. */
	disk_touch(path);
	if ((int64_t)found != bytes)
		return fail(err, EXIT_BAD_INPUT, "%s: expected %lld bytes, found %llu", path,
		            (long long)bytes, (unsigned long long)found);
	return fail(err, EXIT_BAD_INPUT, "%s: expected SHA-256 %s, found %s", path, expected,
	            digest.hex);
}

/* Every file below folder/sub must be in the list, but for the list itself. */
static bool verify_nothing_else(const json_doc *list, const char *folder, const char *sub,
                                const char *list_name, int *files, error *err)
{
	char path[PATH_BYTES];
	struct dirent *entry;
	snprintf(path, sizeof path, "%s%s%s", folder, *sub ? "/" : "", sub);
	DIR *dir = opendir(path);
	if (!dir)
		return fail_errno(err, errno, "%s: cannot open", path);
	bool ok = true;
	while (ok && (entry = readdir(dir))) {
		char name[PATH_BYTES], full[PATH_BYTES];
		struct stat st;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		int length = snprintf(name, sizeof name, "%s%s%s", sub, *sub ? "/" : "",
		                      entry->d_name);
		ok = length > 0 && (size_t)length < sizeof name &&
		     join_path(full, sizeof full, folder, name, err);
		if (ok && stat(full, &st) != 0)
			ok = fail_errno(err, errno, "%s: cannot stat", full);
		else if (ok && S_ISDIR(st.st_mode))
			ok = verify_nothing_else(list, folder, name, list_name, files, err);
		else if (ok && strcmp(name, list_name) != 0 && strcmp(name, CARD_FILE) != 0 &&
		         !cJSON_GetObjectItemCaseSensitive(list->root, name))
			ok = fail(err, EXIT_BAD_INPUT, "%s: the list of files does not have it", full);
		else if (ok)
			++*files;
	}
	closedir(dir);
	return ok;
}

/* A card that went bad by itself is dated now too. */
static bool verify_card(const char *folder, const char *list, error *err)
{
	char path[PATH_BYTES];
	error unused;
	if (card_check(folder, list, err))
		return true;
	if (join_path(path, sizeof path, folder, CARD_FILE, &unused))
		disk_touch(path);
	return false;
}

bool verify_files(const char *folder, json_doc *list, int *files, int64_t *bytes,
                  error *err)
{
	char name[PATH_BYTES], path[PATH_BYTES];
	*list = (json_doc){ 0 };
	*files = 0;
	*bytes = 0;
	if (!find_list(folder, name, sizeof name, err) ||
	    !join_path(path, sizeof path, folder, name, err) ||
	    !json_load(list, path, MAX_LIST_BYTES, err))
		return false;
	/* All but its last byte is checked by what it says. */
	bool ok = list->size && list->text[list->size - 1] == '\n'
	          ? cJSON_IsObject(list->root) ||
	            json_fail(list, list->root, err, "expected an object")
	          : fail(err, EXIT_BAD_INPUT, "%s: expected a line's end at its end: it was cut",
	                 path);
	for (const cJSON *entry = ok ? list->root->child : NULL; ok && entry;
	     entry = entry->next)
		ok = verify_file(list, folder, entry, bytes, err);
	ok = ok && verify_nothing_else(list, folder, "", name, files, err) &&
	     verify_card(folder, path, err);
	if (!ok)
		json_free(list);
	return ok;
}
