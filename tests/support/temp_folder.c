/* See temp_folder.h. */
#include "tests/support/temp_folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool temp_folder_make(char path[PATH_BYTES], error *err)
{
	const char *base = getenv("TMPDIR");
	if (!join_path(path, PATH_BYTES, base && *base ? base : "/tmp", "quern.XXXXXX", err))
		return false;
	return mkdtemp(path) || fail_errno(err, errno, "%s: cannot make the folder", path);
}

static void remove_entry(const char *path)
{
	struct stat st;
	if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
		temp_folder_remove(path);
	else
		unlink(path);
}

void temp_folder_remove(const char *path)
{
	char entry[PATH_BYTES];
	error err;
	chmod(path, 0700);
	DIR *folder = opendir(path);
	for (struct dirent *e; folder && (e = readdir(folder));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    join_path(entry, sizeof entry, path, e->d_name, &err))
			remove_entry(entry);
	if (folder)
		closedir(folder);
	rmdir(path);
}

bool temp_folder_write(const char *folder, const char *name, const void *data,
                       size_t size, error *err)
{
	char path[PATH_BYTES];
	if (!join_path(path, sizeof path, folder, name, err))
		return false;
	FILE *f = fopen(path, "wb");
	if (!f)
		return fail_errno(err, errno, "%s: cannot open", path);
	bool ok = fwrite(data, 1, size, f) == size;
	int saved = errno;
	if (fclose(f) != 0 || !ok)
		return fail_errno(err, ok ? errno : saved, "%s: cannot write", path);
	return true;
}
