/* Compile and link edges for whatever lies in the source folders: lib and kernels go
 * into one archive, every tools/NAME.c (arguments.c aside, which they share), every
 * tests/bench/NAME.c and every test_NAME.c becomes a program. */
#include <string.h>

#include "lib/base/list.h"
#include "lib/graph/emit_internal.h"

static const char *const LIBRARY[] = { "lib/*/*.c", "lib/*/*/*.c", "kernels/*.c",
	                                   "tools/arguments.c", NULL };
static const char *const GPU[] = { "lib/gpu/*.c", "kernels/*.cu", NULL };
static const char *const TOOLS[] = { "tools/*.c", NULL };
static const char *const BENCH[] = { "tests/bench/*.c", NULL };
static const char *const SUPPORT[] = { "tests/support/*.c", NULL };
static const char *const TESTS[] = { "tests/*/test_*.c", "tests/*/*/test_*.c",
	                                 "tests/*/*/*/test_*.c", NULL };

/* A way to build everything: the plain one, and the one for the tests that runs
 * under sanitizers. */
struct variant {
	const char *folder, *compile, *link;
};

static const struct variant PLAIN = { "$o", "cc", "link" };
static const struct variant SANITIZED = { "$o/sanitized", "cc_sanitized",
	                                      "link_sanitized" };

/* lib/gpu is a library of its own, but for what loads it. */
static bool is_device_half(const char *path)
{
	return strncmp(path, "lib/gpu/", 8) == 0 && strcmp(path, "lib/gpu/load.c") != 0;
}

/* Files that match any pattern, sorted within each. */
static bool list_sources(const char *const *patterns, struct path_list *found, error *err)
{
	bool ok = true;
	*found = (struct path_list){ 0 };
	for (int i = 0; ok && patterns[i]; i++)
		ok = list_paths(found, patterns[i], err);
	if (!ok)
		free_paths(found);
	return ok;
}

static bool is_shared(const char *path)
{
	return strcmp(path, "tools/arguments.c") == 0;
}

/* The path without ".c"; ".cu" stays, so that x.c and x.cu give different objects. */
static int stem_length(const char *path)
{
	size_t length = strlen(path);
	return (int)(path[length - 1] == 'u' ? length : length - strlen(".c"));
}

static void emit_compile(text *out, const struct variant *v, const char *path)
{
	bool device = path[strlen(path) - 1] == 'u';
	text_printf(out, "build %s/obj/%.*s.o: %s %s\n", v->folder, stem_length(path), path,
	            device ? "cu" : v->compile, path);
	if (!device && is_device_half(path))
		text_puts(out, "  flags = $flags -fvisibility=hidden -isystem $cuda/include\n");
}

static bool emit_archive(text *out, const struct variant *v, const char *name,
                         const char *const *patterns, error *err)
{
	struct path_list found;
	if (!list_sources(patterns, &found, err))
		return false;
	for (int i = 0; i < found.count; i++)
		if (!is_device_half(found.paths[i]))
			emit_compile(out, v, found.paths[i]);
	text_printf(out, "build %s/%s: archive", v->folder, name);
	for (int i = 0; i < found.count; i++)
		if (!is_device_half(found.paths[i]))
			text_printf(out, " $\n  %s/obj/%.*s.o", v->folder,
		            stem_length(found.paths[i]), found.paths[i]);
	text_puts(out, "\n");
	free_paths(&found);
	return true;
}

static void emit_tool(text *out, const struct variant *v, const char *path)
{
	int length = stem_length(path) - (int)strlen("tools/");
	const char *name = path + strlen("tools/");
	emit_compile(out, v, path);
	text_printf(out, "build %s/bin/%.*s: %s %s/obj/tools/%.*s.o %s/libquern.a\n",
	            v->folder, length, name, v->link, v->folder, length, name, v->folder);
	if (v == &PLAIN && strncmp(name, "sources.", 8) != 0)
		text_printf(out, "build $o/bin/%.*s.digest: digest_sources $o/bin/%.*s | "
		            "$o/bin/sources\n  program = $o/bin/%.*s\n", length, name, length,
		            name, length, name);
}

static bool emit_tools(text *out, const struct variant *v, text *all, error *err)
{
	struct path_list found;
	if (!list_sources(TOOLS, &found, err))
		return false;
	for (int i = 0; i < found.count; i++) {
		const char *path = found.paths[i];
		if (is_shared(path))
			continue;
		int length = stem_length(path) - (int)strlen("tools/");
		emit_tool(out, v, path);
		text_printf(all, " $\n  %s/bin/%.*s", v->folder, length, path + strlen("tools/"));
		if (v == &PLAIN && strcmp(path, "tools/sources.c") != 0)
			text_printf(all, " $\n  $o/bin/%.*s.digest", length, path + strlen("tools/"));
	}
	free_paths(&found);
	return true;
}

static bool emit_tests(text *out, const struct variant *v, text *all, error *err)
{
	struct path_list found;
	if (!list_sources(TESTS, &found, err))
		return false;
	for (int i = 0; i < found.count; i++) {
		int length = stem_length(found.paths[i]);
		const char *path = found.paths[i];
		emit_compile(out, v, path);
		text_printf(out, "build %s/%.*s: %s %s/obj/%.*s.o %s/libsupport.a "
		            "%s/libquern.a\n  libs = -lcmocka $libs\n", v->folder, length, path,
		            v->link, v->folder, length, path, v->folder, v->folder);
		text_printf(all, " $\n  %s/%.*s", v->folder, length, path);
	}
	free_paths(&found);
	return true;
}

/* What the benches run beside the tools; their tests are tests. */
static bool emit_bench(text *out, text *all, error *err)
{
	struct path_list found;
	if (!list_sources(BENCH, &found, err))
		return false;
	for (int i = 0; i < found.count; i++) {
		const char *path = found.paths[i], *name = path + strlen("tests/bench/");
		int length = (int)(strlen(name) - strlen(".c"));
		if (strncmp(name, "test_", 5) == 0)
			continue;
		emit_compile(out, &PLAIN, path);
		text_printf(out, "build $o/bench/%.*s: link $o/obj/tests/bench/%.*s.o "
		            "$o/libsupport.a $o/libquern.a\n", length, name, length, name);
		text_printf(all, " $\n  $o/bench/%.*s", length, name);
	}
	free_paths(&found);
	return true;
}

/* libquern_gpu.so, beside the programs that load it. */
static bool emit_gpu(text *out, text *all, error *err)
{
	struct path_list found;
	if (!list_sources(GPU, &found, err))
		return false;
	text inputs = { 0 };
	for (int i = 0; i < found.count; i++) {
		const char *path = found.paths[i];
		if (strcmp(path, "lib/gpu/load.c") == 0)
			continue;
		emit_compile(out, &PLAIN, path);
		text_printf(&inputs, " $\n  $o/obj/%.*s.o", stem_length(path), path);
	}
	text_printf(out, "build $o/bin/libquern_gpu.so: link_gpu%s $o/libquern.a\n",
	            inputs.data ? inputs.data : "");
	text_puts(all, " $\n  $o/bin/libquern_gpu.so");
	free_paths(&found);
	bool ok = text_ok(&inputs, err);
	text_free(&inputs);
	return ok;
}

bool emit_programs(text *out, const struct tree_settings *settings, error *err)
{
	static const struct variant *const variants[] = { &PLAIN, &SANITIZED };
	text tools = { 0 }, tests = { 0 };
	bool ok = true;
	for (int i = 0; ok && i < 2; i++) {
		const struct variant *v = variants[i];
		ok = emit_archive(out, v, "libquern.a", LIBRARY, err) &&
		     emit_archive(out, v, "libsupport.a", SUPPORT, err) &&
		     emit_tools(out, v, v == &PLAIN ? &tools : &tests, err) &&
		     emit_tests(out, v, &tests, err);
	}
	ok = ok && emit_bench(out, &tools, err) &&
	     (!*settings->cuda || emit_gpu(out, &tools, err));
	text_printf(out, "build gpu_half: phony%s\n",
	            *settings->cuda ? " $o/bin/libquern_gpu.so" : "");
	emit_compile(out, &PLAIN, "configure.c");
	text_printf(out, "build $o/bin/configure: link $o/obj/configure.o $o/libquern.a\n");
	text_printf(out, "build tools: phony $o/bin/configure%s\n", tools.data);
	text_printf(out, "build test: test | always tools%s\n", tests.data);
	ok = ok && text_ok(&tools, err) && text_ok(&tests, err);
	text_free(&tools);
	text_free(&tests);
	return ok;
}
