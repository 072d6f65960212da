/* Build trees of their own for tests in C, made as the scenarios make theirs
 * (scenario.sh), with the programs of the tree under test. Failures fail the test and
 * show what the build printed. */
#ifndef QUERN_TESTS_SUPPORT_BUILD_TREE_H
#define QUERN_TESTS_SUPPORT_BUILD_TREE_H

#include <stddef.h>

#include "lib/base/file.h"

/* folder/tree, configured with `arguments` and built: `targets`, or nothing where that
 * is NULL. Both are words for the shell without single quotes. */
void build_tree(const char *folder, const char *arguments, const char *targets);

/* The path of `name` below what folder/tree has built ("models/..."). */
void built_path(char path[PATH_BYTES], const char *folder, const char *name);

/* Runs a program of the tree under test: its name and its arguments, words for the
 * shell. Returns its exit status; what it said on stderr goes to said[size]. */
int run_tool(const char *command, char *said, size_t size);

#endif
