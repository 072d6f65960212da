/* ModelOpt's exclude lists as vLLM, SGLang and TensorRT-LLM match them. */
#include "lib/checkpoint/consumer_lists.h"

#include <string.h>

/* The lists hold names with '*' as the only wildcard. The programs disagree about
 * every other special character (fnmatch here, a regular expression there), and no
 * exporter writes one: such an entry is refused. */
static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "0123456789_-.";

static bool check_name(const json_doc *doc, const cJSON *item, error *err)
{
	if (!cJSON_IsString(item))
		return json_fail(doc, item, err, "expected a module name");
	const char *rest = item->valuestring;
	while (*(rest += strspn(rest, PLAIN)) == '*')
		rest++;
	return !*rest || json_fail(doc, item, err,
	                           "expected a module name with '*' as the only wildcard, "
	                           "found \"%.100s\"", item->valuestring);
}

/* Takes over text (in the list's arena), which may be NULL for want of memory. */
static bool add_entry(struct entry_list *list, const char *written, const char *text)
{
	if (!text)
		return false;
	list->entries[list->count++] = (struct list_entry){
		.written = written, .text = text, .length = strlen(text),
		.wild = strchr(text, '*') != NULL
	};
	return true;
}

/* vllm/model_executor/layers/quantization/modelopt.py,
 * ModelOptQuantConfigBase.apply_vllm_mapper: "X*" becomes "X" and "X.*", then the
 * prefixes are mapped. */
static bool add_for_vllm(struct entry_list *list, const char *written, arena *memory,
                         error *err)
{
	size_t length = strlen(written);
	if (length < 2 || written[length - 1] != '*' || written[length - 2] == '.')
		return add_entry(list, written, map_hub_prefix(written, memory, err));
	char *bare = arena_text(memory, written, length - 1, err);
	char *below = bare ? arena_printf(memory, err, "%s.*", bare) : NULL;
	return below && add_entry(list, written, map_hub_prefix(bare, memory, err)) &&
	       add_entry(list, written, map_hub_prefix(below, memory, err));
}

/* sglang/srt/layers/quantization/modelopt_quant.py,
 * ModelOptQuantConfig.apply_weight_name_mapper: mapped, and once more without
 * "language_model.". */
static bool add_for_sglang(struct entry_list *list, const char *written, arena *memory,
                           error *err)
{
	static const char outer[] = "language_model.";
	const char *mapped = map_sglang_name(written, memory, err);
	if (!add_entry(list, written, mapped))
		return false;
	return strncmp(mapped, outer, sizeof outer - 1) != 0 ||
	       add_entry(list, written, mapped + sizeof outer - 1);
}

static bool add_written(struct entry_list *list, enum program program,
                        const char *written, arena *memory, error *err)
{
	const char *copy = arena_text(memory, written, strlen(written), err);
	if (!copy)
		return false;
	if (program == PROGRAM_VLLM)
		return add_for_vllm(list, copy, memory, err);
	if (program == PROGRAM_SGLANG)
		return add_for_sglang(list, copy, memory, err);
	return add_entry(list, copy, copy);
}

bool read_exclude_list(struct entry_list *list, enum program program,
                       const json_doc *doc, const cJSON *array, arena *memory,
                       error *err)
{
	enum { AT_MOST = 2 }; /* entries that one becomes */
	int count = cJSON_GetArraySize(array);
	const cJSON *item;
	list->count = 0;
	list->entries = arena_alloc(memory, (size_t)count * AT_MOST, sizeof *list->entries,
	                            err);
	if (!list->entries)
		return false;
	cJSON_ArrayForEach(item, array) {
		if (!check_name(doc, item, err) ||
		    !add_written(list, program, item->valuestring, memory, err))
			return false;
	}
	return true;
}

/* Whether pattern, '*' standing for any text, covers all of name[length]. */
static bool covers(const char *pattern, const char *name, size_t length)
{
	const char *end = name + length, *star = NULL, *resume = name;
	while (name < end) {
		if (*pattern == '*') {
			star = pattern++;
			resume = name;
		} else if (*pattern == *name) {
			pattern++;
			name++;
		} else if (star) {
			pattern = star + 1;
			name = ++resume;
		} else {
			return false;
		}
	}
	return pattern[strspn(pattern, "*")] == '\0';
}

/* In match->rule already: by what. */
static bool matched(struct entry_match *match, const struct list_entry *entry,
                    const char *how)
{
	match->entry = entry;
	match->how = how;
	return true;
}

/* Whether an entry matches this name in one program's narrowest way. */
typedef bool narrow_match(const struct list_entry *entry, const char *name,
                          size_t length);

static bool is_listed(const struct entry_list *list, narrow_match *matches,
                      const char *name, struct entry_match *match)
{
	size_t length = strlen(name);
	for (int i = 0; i < list->count; i++)
		if (matches(&list->entries[i], name, length))
			return matched(match, &list->entries[i], "lists");
	return false;
}

/* is_layer_skipped of both servers: of a fused layer all shards must be listed, or
 * none; anything between they refuse. */
static bool shards_are_listed(const struct entry_list *list, narrow_match *matches,
                              const struct built_module *built, bool *listed,
                              struct entry_match *match, error *err)
{
	int found = 0;
	for (int s = 0; s < built->shard_count; s++)
		found += is_listed(list, matches, built->shards[s], match);
	if (found != 0 && found != built->shard_count)
		return fail_split(built, err);
	*listed = found != 0;
	return true;
}

static bool equals(const struct list_entry *entry, const char *name, size_t length)
{
	return entry->length == length && memcmp(entry->text, name, length) == 0;
}

/* vLLM: modelopt.py, ModelOptQuantConfigBase.is_layer_excluded, and
 * utils/quant_utils.py, is_layer_skipped (match_mode "exact"). Left out: its
 * {"qkv": ["qkv"]} for the vision tower, which asks for the same name again, and
 * the test without "language_model.", which a substring passes anyway. */
static bool match_vllm(const struct entry_list *list, const struct built_module *built,
                       struct entry_match *match, error *err)
{
	size_t length = strlen(built->name);
	match->rule = "vllm/model_executor/layers/quantization/utils/quant_utils.py, "
	              "is_layer_skipped";
	bool listed = is_listed(list, equals, built->name, match);
	if (!listed && built->shard_count &&
	    !shards_are_listed(list, equals, built, &listed, match, err))
		return false;
	if (!listed)
		match->rule = "vllm/model_executor/layers/quantization/modelopt.py, "
		              "ModelOptQuantConfigBase.is_layer_excluded";
	for (int i = 0; !listed && i < list->count; i++) {
		const struct list_entry *entry = &list->entries[i];
		if (entry->length <= length &&
		    memmem(built->name, length, entry->text, entry->length))
			listed = matched(match, entry, "is a substring of");
	}
	for (int i = 0; !listed && i < list->count; i++) {
		const struct list_entry *entry = &list->entries[i];
		if (entry->wild && covers(entry->text, built->name, length))
			listed = matched(match, entry, "as a wildcard covers");
	}
	return true;
}

/* sglang/srt/layers/quantization/utils.py, _module_path_match: the entry, dots at
 * its end dropped, is a run of whole components of the name. */
static bool lies_on_path(const struct list_entry *entry, const char *name,
                         size_t length)
{
	size_t size = entry->length;
	while (size && entry->text[size - 1] == '.')
		size--;
	const char *end = name + length, *at = name;
	if (size == 0)
		return false;
	for (; (at = memmem(at, (size_t)(end - at), entry->text, size)); at++)
		if ((at == name || at[-1] == '.') && (at + size == end || at[size] == '.'))
			return true;
	return false;
}

/* ModelOptQuantConfig.is_layer_excluded: the entry, its '*' made ".*", matches the
 * whole name or any one component of it. Its last test is for the fused
 * projections of another architecture. */
static bool covers_name_or_part(const struct list_entry *entry, const char *name,
                                size_t length)
{
	if (covers(entry->text, name, length))
		return true;
	if (strchr(entry->text, '.'))
		return false; /* a component has none */
	for (const char *part = name; part <= name + length; part += strcspn(part, ".") + 1)
		if (covers(entry->text, part, strcspn(part, ".")))
			return true;
	return false;
}

/* SGLang: utils.py, is_layer_skipped, then modelopt_quant.py, is_layer_excluded. A
 * fused layer is asked about by its shards only, known to it or by the fallback
 * table, so that also the vision tower's attn.qkv_proj has q, k and v. */
static bool match_sglang(const struct entry_list *list, const struct built_module *built,
                         struct entry_match *match, error *err)
{
	size_t length = strlen(built->name);
	bool listed;
	match->rule = "sglang/srt/layers/quantization/utils.py, is_layer_skipped";
	if (!built->shard_count)
		listed = is_listed(list, lies_on_path, built->name, match);
	else if (!shards_are_listed(list, lies_on_path, built, &listed, match, err))
		return false;
	if (!listed)
		match->rule = "sglang/srt/layers/quantization/modelopt_quant.py, "
		              "ModelOptQuantConfig.is_layer_excluded";
	for (int i = 0; !listed && i < list->count; i++)
		if (covers_name_or_part(&list->entries[i], built->name, length))
			listed = matched(match, &list->entries[i], "as a wildcard covers");
	return true;
}

/* tensorrt_llm/_torch/models/modeling_utils.py, apply_quant_config_exclude_modules,
 * and models/modeling_utils.py, is_module_excluded_from_quantization: any entry
 * that covers the fused layer or any shard of it (fnmatchcase). */
static bool match_tensorrt(const struct entry_list *list,
                           const struct built_module *built, struct entry_match *match)
{
	match->rule = "tensorrt_llm/_torch/models/modeling_utils.py, "
	              "apply_quant_config_exclude_modules";
	for (int i = 0; i < list->count; i++) {
		const struct list_entry *entry = &list->entries[i];
		if (covers(entry->text, built->name, strlen(built->name)))
			return matched(match, entry, "covers");
		for (int s = 0; s < built->shard_count; s++)
			if (covers(entry->text, built->shards[s], strlen(built->shards[s])))
				return matched(match, entry, "covers a part of");
	}
	return true;
}

bool match_excludes(const struct entry_list *list, enum program program,
                    const struct built_module *built, struct entry_match *match,
                    error *err)
{
	*match = (struct entry_match){ 0 };
	if (program == PROGRAM_VLLM)
		return match_vllm(list, built, match, err);
	if (program == PROGRAM_SGLANG)
		return match_sglang(list, built, match, err);
	return match_tensorrt(list, built, match);
}
