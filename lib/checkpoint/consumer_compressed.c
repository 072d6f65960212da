/* compressed-tensors' ignore lists as vLLM, SGLang and transformers match them:
 * plain names, and "re:" with a regular expression that must match from the start
 * of the name but need not reach its end (Python's re.match). */
#include "lib/checkpoint/consumer_lists.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REGEX_MARK "re:"

enum { MARK_BYTES = sizeof REGEX_MARK - 1 };

/* ---- Reading ---- */

/* The part of a bracket expression after '[' that Python and POSIX read alike:
 * characters and ranges. Returns what follows, or NULL. */
static const char *skip_set(const char *at)
{
	at += *at == '^';
	size_t length = strcspn(at, "]\\[");
	return length && at[length] == ']' ? at + length + 1 : NULL;
}

/* Whether Python and POSIX extended expressions mean the same by it: literals,
 * escaped punctuation, '.', sets, groups, '|', '^', '$' and single '*', '+', '?'.
 * No exporter needs more, and guessing at the rest would make the check worthless. */
static bool is_common_regex(const char *at)
{
	bool repeatable = false; /* something stands before that '*' could repeat */
	int open = 0;            /* groups */
	while (*at) {
		char c = *at++;
		open += (c == '(') - (c == ')');
		if (open < 0)
			return false;
		if (strchr("*+?", c)) {
			if (!repeatable)
				return false;
			repeatable = false;
		} else if (c == '\\') {
			if (!*at || !strchr(".^$*+?()[]{}|\\", *at++))
				return false;
			repeatable = true;
		} else if (c == '[') {
			if (!(at = skip_set(at)))
				return false;
			repeatable = true;
		} else if (strchr("{}]", c)) {
			return false;
		} else {
			repeatable = !strchr("(|^$", c);
		}
	}
	return open == 0;
}

static bool compile_regex(struct list_entry *entry, const json_doc *doc,
                          const cJSON *item, arena *memory, error *err)
{
	const char *pattern = entry->text + MARK_BYTES;
	if (!is_common_regex(pattern))
		return json_fail(doc, item, err,
		                 "expected a regular expression of literals, sets, groups and "
		                 "'*', '+', '?', found \"%.200s\"", entry->text);
	char *anchored = arena_printf(memory, err, "^(%s)", pattern);
	regex_t *regex = anchored ? arena_alloc(memory, 1, sizeof *regex, err) : NULL;
	if (!regex)
		return false;
	int code = regcomp(regex, anchored, REG_EXTENDED | REG_NOSUB);
	if (code == REG_ESPACE)
		return fail_memory(err, "a regular expression", strlen(anchored));
	if (code != 0) {
		char reason[128];
		regerror(code, regex, reason, sizeof reason);
		return json_fail(doc, item, err, "\"%.200s\": %s", entry->text, reason);
	}
	entry->regex = regex;
	return true;
}

/* vLLM: compressed_tensors.py, apply_vllm_mapper: names with a dot are mapped,
 * expressions and class names are not. SGLang: its apply_weight_name_mapper maps
 * everything, the text of expressions included. transformers asks with its own
 * names and maps nothing. */
static const char *rewrite(const char *written, enum program program, arena *memory,
                           error *err)
{
	if (program == PROGRAM_SGLANG)
		return map_sglang_name(written, memory, err);
	if (program == PROGRAM_VLLM && strchr(written, '.') &&
	    strncmp(written, REGEX_MARK, MARK_BYTES) != 0)
		return map_hub_prefix(written, memory, err);
	return written;
}

bool read_ignore_list(struct entry_list *list, enum program program,
                      const json_doc *doc, const cJSON *array, arena *memory,
                      error *err)
{
	const cJSON *item;
	list->count = 0;
	list->entries = arena_alloc(memory, (size_t)cJSON_GetArraySize(array),
	                            sizeof *list->entries, err);
	if (!list->entries)
		return false;
	cJSON_ArrayForEach(item, array) {
		struct list_entry *entry = &list->entries[list->count];
		if (!cJSON_IsString(item))
			return json_fail(doc, item, err, "expected a module name or \"re:...\"");
		entry->written = arena_text(memory, item->valuestring,
		                            strlen(item->valuestring), err);
		if (!entry->written ||
		    !(entry->text = rewrite(entry->written, program, memory, err)))
			return false;
		entry->length = strlen(entry->text);
		list->count++;
		if (strncmp(entry->text, REGEX_MARK, MARK_BYTES) == 0 &&
		    !compile_regex(entry, doc, item, memory, err))
			return false;
	}
	return true;
}

void free_list(struct entry_list *list)
{
	for (int i = 0; i < list->count; i++)
		if (list->entries[i].regex)
			regfree(list->entries[i].regex);
	list->count = 0;
}

/* ---- Matching ---- */

/* vLLM: utils/config_utils.py, is_equal_or_regex_match. transformers:
 * compressed_tensors/utils/match.py, match_name, and _match_class: an entry may be
 * a class that the linears have. SGLang: compressed_tensors/utils.py,
 * check_equal_or_regex_match: a plain entry may also be the last components. */
static bool entry_matches(const struct list_entry *entry, enum program program,
                          const char *name, struct entry_match *match)
{
	size_t length = strlen(name);
	match->how = "equals";
	if (entry->regex) {
		/* glibc's says "no match" too when it ran out of memory. */
		errno = 0;
		int code = regexec(entry->regex, name, 0, NULL, 0);
		match->how = "matches";
		match->failed |= code != 0 && (code != REG_NOMATCH || errno == ENOMEM);
		return code == 0;
	}
	if (strcmp(entry->text, name) == 0)
		return true;
	if (program == PROGRAM_SGLANG && entry->length < length) {
		const char *end = name + length - entry->length;
		match->how = "is the end of";
		return end[-1] == '.' && strcmp(end, entry->text) == 0;
	}
	match->how = "is the class of";
	return program == PROGRAM_TRANSFORMERS &&
	       (strcmp(entry->text, "Linear") == 0 || strcmp(entry->text, "Module") == 0);
}

static bool any_entry_matches(const struct entry_list *list, enum program program,
                              const char *name, struct entry_match *match)
{
	for (int i = 0; i < list->count; i++) {
		if (!entry_matches(&list->entries[i], program, name, match))
			continue;
		match->entry = &list->entries[i];
		return true;
	}
	return false;
}

/* SGLang takes a fused layer by its own name only if the list spells it out. */
static bool is_spelt_out(const struct entry_list *list, const char *name,
                         struct entry_match *match)
{
	for (int i = 0; i < list->count; i++) {
		if (strcmp(list->entries[i].text, name) != 0)
			continue;
		match->entry = &list->entries[i];
		match->how = "equals";
		return true;
	}
	return false;
}

/* vLLM: compressed_tensors/utils.py, should_ignore_layer, with config_utils.py,
 * find_matching_patterns: the fused name first, by any entry. SGLang:
 * compressed_tensors/utils.py, should_ignore_layer. Both then ask about the shards,
 * and refuse when only some are ignored. */
bool match_ignores(const struct entry_list *list, enum program program,
                   const struct built_module *built, struct entry_match *match,
                   error *err)
{
	static const char *const rules[] = {
		[PROGRAM_VLLM] = "vllm/model_executor/layers/quantization/compressed_tensors/"
		                 "utils.py, should_ignore_layer",
		[PROGRAM_SGLANG] = "sglang/srt/layers/quantization/compressed_tensors/utils.py, "
		                   "should_ignore_layer",
		[PROGRAM_TRANSFORMERS] = "compressed_tensors/utils/match.py, match_name",
	};
	*match = (struct entry_match){ .rule = rules[program] };
	bool by_name = program == PROGRAM_SGLANG && built->shard_count
	                   ? is_spelt_out(list, built->name, match)
	                   : any_entry_matches(list, program, built->name, match);
	int found = 0;
	for (int s = 0; !by_name && s < built->shard_count; s++)
		found += any_entry_matches(list, program, built->shards[s], match);
	if (match->failed)
		return fail_memory(err, "asking a regular expression", strlen(built->name));
	return found == 0 || found == built->shard_count || fail_split(built, err);
}

/* vLLM and SGLang: compressed_tensors/utils.py, find_matched_target: the name, then all
 * shards, whatever groups these are in (here they must be in one); plain entries only as
 * a whole. ModelOpt's quantized_layers: modelopt.py, _resolve_quant_algo of both, by
 * the name or by the shards that are listed. */
bool match_targets(const struct entry_list *list, enum program program,
                   const struct built_module *built, struct entry_match *match,
                   error *err)
{
	static const char *const rules[] = {
		[PROGRAM_VLLM] = "vllm/model_executor/layers/quantization/compressed_tensors/"
		                 "utils.py, find_matched_target",
		[PROGRAM_SGLANG] = "sglang/srt/layers/quantization/compressed_tensors/utils.py, "
		                   "find_matched_target",
		[PROGRAM_TENSORRT_LLM] = "tensorrt_llm/_torch/models/modeling_utils.py, "
		                         "apply_layerwise_quant_config",
		[PROGRAM_TRANSFORMERS] = "compressed_tensors/utils/match.py, match_targets",
	};
	*match = (struct entry_match){ .rule = rules[program] };
	if (any_entry_matches(list, program, built->name, match))
		return true;
	int found = 0;
	for (int s = 0; s < built->shard_count; s++)
		found += any_entry_matches(list, program, built->shards[s], match);
	return found == 0 || found == built->shard_count || fail_split(built, err);
}
