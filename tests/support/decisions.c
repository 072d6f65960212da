/* See decisions.h. */
#include "tests/support/decisions.h"

#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/checkpoint/fused.h"
#include "lib/model/linears.h"
#include "lib/quant/formats/format.h"

void decisions_make(struct decisions *d, int vision_blocks, int text_layers)
{
	struct model_config config = { .vision.depth = vision_blocks,
		                       .text.layers = text_layers };
	struct linear_shape *linears;
	error err;
	*d = (struct decisions){ 0 };
	if (!list_linears(&config, &d->memory, &linears, &d->count, &err))
		fail_msg("%s", err.text);
	d->modules = arena_alloc(&d->memory, (size_t)d->count, sizeof *d->modules, &err);
	assert_non_null(d->modules);
	for (int i = 0; i < d->count; i++) {
		d->modules[i].name = linears[i].name;
		d->modules[i].form = &format_find("fp8_e4m3", "tensor")->form;
	}
}

void decisions_free(struct decisions *d)
{
	arena_free(&d->memory);
}

static bool exportable(const char *module)
{
	return strcmp(module, "lm_head") != 0 &&
	       strcmp(module, "visual.patch_embed.proj") != 0;
}

void decide(struct decisions *d, const char *glob, bool quantised)
{
	int found = 0;
	for (int i = 0; i < d->count; i++) {
		if (fnmatch(glob, d->modules[i].name, 0) != 0)
			continue;
		d->modules[i].quantised = quantised && exportable(d->modules[i].name);
		found++;
	}
	if (!found)
		fail_msg("no linear matches %s", glob);
}

void decide_form(struct decisions *d, const char *glob, const char *element,
                 const char *granularity)
{
	decide(d, glob, true);
	for (int i = 0; i < d->count; i++)
		if (fnmatch(glob, d->modules[i].name, 0) == 0)
			d->modules[i].form = &format_find(element, granularity)->form;
}

void decide_by_chance(struct decisions *d, int percent, uint32_t seed)
{
	uint32_t state = seed * 2654435761u + 1;
	bool quantised = false;
	for (int i = 0; i < d->count; i++) {
		if (i == 0 || !modules_fuse(d->modules[i - 1].name, d->modules[i].name)) {
			state = state * 1664525u + 1013904223u;
			quantised = (int)((state >> 16) % 100) < percent;
		}
		d->modules[i].quantised = quantised && exportable(d->modules[i].name);
	}
}

void write_configs(struct config_files *files, enum profile profile,
                   const struct decisions *d)
{
	json_doc base;
	text config = { 0 }, hf = { 0 };
	error err;
	files->hf_quant_config = (json_doc){ 0 };
	if (!json_load(&base, "demo/tiny-qwen2_5-vl/config.json", 1 << 20, &err) ||
	    !print_config(profile, &base, d->modules, d->count, false, &config, &err) ||
	    !json_parse(&files->config, "config.json", config.data, config.length, &err))
		fail_msg("%s", err.text);
	if (profile_has_hf_quant_config(profile, d->modules, d->count) &&
	    (!print_hf_quant_config(d->modules, d->count, false, &hf, &err) ||
	     !json_parse(&files->hf_quant_config, "hf_quant_config.json", hf.data, hf.length,
	                 &err)))
		fail_msg("%s", err.text);
	json_free(&base);
	text_free(&config);
	text_free(&hf);
}

void free_configs(struct config_files *files)
{
	json_free(&files->config);
	json_free(&files->hf_quant_config);
}

void parse_json(json_doc *doc, const char *name, const char *format, ...)
{
	char *json;
	error err;
	va_list args;
	va_start(args, format);
	assert_true(vasprintf(&json, format, args) >= 0);
	va_end(args);
	if (!json_parse(doc, name, json, strlen(json), &err))
		fail_msg("%s", err.text);
	free(json);
}
