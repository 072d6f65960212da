/* Assembling a checkpoint; see assemble.h.
 *
 * Weights come from the store; scales, the index and the configurations are written
 * here. The list of all files with their digests is what verify starts from; the model
 * card, which names the digest of the list, comes last. */
#include "lib/quant/assemble.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/card.h"
#include "lib/checkpoint/model_files.h"
#include "lib/model/linears.h"
#include "lib/quant/assemble_parts.h"
#include "lib/quant/model_card.h"

enum { MAX_TEXT_BYTES = 256 << 20 };

/* Tensors are those of one language; what both share fits either. */
static bool fits_profile(const struct variant_set *set, enum profile p)
{
	return set->format->form.bilingual ||
	       (set->profile == PROFILE_MODELOPT) == (p == PROFILE_MODELOPT);
}

static bool read_sets(struct builder *b, error *err)
{
	const struct assembly *a = b->a;
	b->sets = arena_alloc(&b->memory, (size_t)a->quantized_count, sizeof *b->sets, err);
	for (int i = 0; b->sets && i < a->quantized_count; i++) {
		if (!variants_read(&b->sets[i], a->quantized[i], err))
			return false;
		b->set_count++;
		if (!fits_profile(&b->sets[i], a->profile))
			return fail(err, EXIT_BAD_INPUT, "%s: expected pieces for the %s profile, found "
			            "those for %s", a->quantized[i], profile_name(a->profile),
			            profile_name(b->sets[i].profile));
	}
	return b->sets != NULL;
}

static bool load_inputs(struct builder *b, error *err)
{
	const struct assembly *a = b->a;
	char path[PATH_BYTES];
	return join_path(path, sizeof path, a->tree, "store", err) &&
	       store_open(&b->store, path, err) &&
	       model_config_load(&b->config, a->model, err) &&
	       list_linears(&b->config, &b->memory, &b->linears, &b->linear_count, err) &&
	       baseline_read(&b->baseline, a->baseline, err) &&
	       join_path(path, sizeof path, a->slice, "slice.json", err) &&
	       coverage_read(&b->coverage, &b->baseline, path, err) &&
	       read_sets(b, err) &&
	       amax_read(&b->amax, a->amax, b->linears, b->linear_count, err) &&
	       join_path(path, sizeof path, a->model, "config.json", err) &&
	       json_load(&b->base_config, path, MAX_TEXT_BYTES, err);
}

/* ---- files of the draft ---- */

void record_file(struct builder *b, const char *name, const struct digest *digest,
                 uint64_t bytes)
{
	cJSON *entry = tree_object(&b->files, b->files.root, name);
	tree_text(&b->files, entry, "sha256", digest->hex);
	tree_number(&b->files, entry, "bytes", (double)bytes);
}

static bool add_bytes(struct builder *b, const char *name, const void *data, size_t size,
                      error *err)
{
	struct digest digest;
	if (!digest_bytes(data, size, &digest, err) ||
	    !draft_write(&b->draft, name, data, size, err))
		return false;
	record_file(b, name, &digest, size);
	b->written += size;
	return true;
}

bool add_text(struct builder *b, const char *name, const text *content, error *err)
{
	return add_bytes(b, name, content->data ? content->data : "", content->length, err);
}

static bool add_copy(struct builder *b, const char *name, const char *path, error *err)
{
	char *data;
	size_t size;
	if (!read_file(path, MAX_TEXT_BYTES, &data, &size, err))
		return false;
	bool ok = add_bytes(b, name, data, size, err);
	free(data);
	return ok;
}

/* A file that many schemes have alike is stored once and linked: so it is written and
 * waited for once. */
static bool add_shared(struct builder *b, const char *name, const char *path, error *err)
{
	char *data;
	size_t size;
	struct output object = { .name = name };
	if (!read_file(path, MAX_TEXT_BYTES, &data, &size, err))
		return false;
	bool ok = store_add_bytes(&b->store, data, size, &object, err) &&
	          link_object_as(b, name, &object, err);
	free(data);
	return ok;
}

static bool write_index(struct builder *b, error *err)
{
	text printed = { 0 };
	tree_number(&b->index, cJSON_GetObjectItemCaseSensitive(b->index.root, "metadata"),
	            "total_size", b->total_bytes);
	bool ok = tree_finish(&b->index, &printed, err) &&
	          add_text(b, "model.safetensors.index.json", &printed, err);
	text_free(&printed);
	return ok;
}

/* ---- configurations, texts, manifests ---- */

static bool write_configs(struct builder *b, error *err)
{
	text config = { 0 }, quant = { 0 };
	bool fp8_cache = b->coverage.kv_cache.name != NULL;
	bool ok = print_config(b->a->profile, &b->base_config, b->decisions, b->linear_count,
	                       fp8_cache, &config, err) &&
	          add_text(b, "config.json", &config, err);
	if (ok && profile_has_hf_quant_config(b->a->profile, b->decisions, b->linear_count))
		ok = print_hf_quant_config(b->decisions, b->linear_count, fp8_cache, &quant, err) &&
		     add_text(b, "hf_quant_config.json", &quant, err);
	text_free(&config);
	text_free(&quant);
	return ok;
}

/* The base's own files, byte for byte; its README makes room for the model card. */
static bool add_texts(struct builder *b, error *err)
{
	struct file_names names;
	if (!list_model_files(b->a->model, FILES_TEXTS, &b->memory, &names, err))
		return false;
	for (int i = 0; i < names.count; i++) {
		char path[PATH_BYTES];
		if (strcmp(names.names[i], CARD_FILE) != 0 &&
		    !(join_path(path, sizeof path, b->a->model, names.names[i], err) &&
		      add_shared(b, names.names[i], path, err)))
			return false;
	}
	return true;
}

/* The folder part of a path, "." if it has none. */
static void folder_of(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');
	snprintf(out, size, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

typedef bool file_adder(struct builder *b, const char *name, const char *path, error *err);

static bool add_table(struct builder *b, file_adder *add, const char *folder,
                            const char *file, const char *as, error *err)
{
	char path[PATH_BYTES], name[PATH_BYTES];
	return join_path(path, sizeof path, folder, file, err) &&
	       join_path(name, sizeof name, SENSITIVITY_FOLDER, as, err) &&
	       add(b, name, path, err);
}

static bool add_manifests(struct builder *b, error *err)
{
	const struct assembly *a = b->a;
	char folder[PATH_BYTES], own[PATH_BYTES], coverage[PATH_BYTES], inherited[PATH_BYTES],
	     state[PATH_BYTES];
	folder_of(a->baseline, folder, sizeof folder);
	snprintf(own, sizeof own, "%s_quant_manifest.json", a->file_name);
	snprintf(coverage, sizeof coverage, "%s_coverage_from_baseline.json", a->file_name);
	snprintf(inherited, sizeof inherited, "%s_quant_manifest.json", b->baseline.name);
	snprintf(state, sizeof state, "%s_autoquant_state.json", b->baseline.name);
	return add_table(b, add_copy, a->slice, "manifest.json", own, err) &&
	       add_table(b, add_copy, a->slice, "slice.json", coverage, err) &&
	       (strcmp(own, inherited) == 0 ||
	        add_table(b, add_shared, folder, inherited, inherited, err)) &&
	       add_table(b, add_shared, folder, state, state, err) &&
	       add_table(b, add_shared, folder, "per-layer-sensitivity.md",
	                       "per-layer-sensitivity.md", err) &&
	       add_table(b, add_shared, folder, "per-layer-sensitivity.json",
	                       "per-layer-sensitivity.json", err);
}

/* An element as people write it: "FP8" of "fp8_e4m3". */
static void spell_element(const struct format *f, char *out, size_t size)
{
	size_t length = 0;
	for (; length + 1 < size && f->element[length] && f->element[length] != '_'; length++)
		out[length] = (char)toupper((unsigned char)f->element[length]);
	out[length] = '\0';
}

static bool is_kept(const struct builder *b, const struct variant_set *set)
{
	for (int i = 0; i < b->baseline.count; i++)
		if (b->coverage.keeps[i] &&
		    set_of_format(b, b->baseline.groups[i].formats[b->coverage.choice[i]]) == set)
			return true;
	return false;
}

/* "FP8", "FP8 and NVFP4", "FP8, INT8 and INT4": what groups are in; of a scheme that keeps
 * none, what they could have been in. */
static void name_elements(const struct builder *b, char *out, size_t size)
{
	char names[MAX_FORMATS][16];
	int count = 0;
	for (int i = 0; i < b->set_count && count < MAX_FORMATS; i++) {
		int known = 0;
		if (b->coverage.selected && !is_kept(b, &b->sets[i]))
			continue;
		spell_element(b->sets[i].format, names[count], sizeof names[count]);
		while (known < count && strcmp(names[known], names[count]) != 0)
			known++;
		count += known == count;
	}
	size_t used = 0;
	out[0] = '\0';
	for (int i = 0; i < count && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s",
		                         i == 0 ? "" : i == count - 1 ? " and " : ", ", names[i]);
}

/* The card is no part of the list, whose digest it names. */
static bool write_card(struct builder *b, const struct digest *list, error *err)
{
	text card = { 0 };
	char elements[64];
	name_elements(b, elements, sizeof elements);
	const struct card_facts facts = { .scheme = b->a->scheme, .elements = elements,
		.bilingual = profile_has_hf_quant_config(PROFILE_UNIVERSAL, b->decisions,
		                                         b->linear_count),
		.folded = b->folded, .file_name = b->a->file_name, .profile = b->a->profile, .baseline = &b->baseline,
		.coverage = &b->coverage, .model = b->a->model, .list = list };
	bool ok = print_model_card(&facts, &card, err) &&
	          draft_write(&b->draft, CARD_FILE, card.data, card.length, err);
	b->written += card.length;
	text_free(&card);
	return ok;
}

static bool write_list_and_card(struct builder *b, error *err)
{
	char name[PATH_BYTES];
	text printed = { 0 };
	struct digest digest;
	snprintf(name, sizeof name, SENSITIVITY_FOLDER "/%s" FILES_SUFFIX, b->a->file_name);
	bool ok = tree_finish(&b->files, &printed, err) &&
	          draft_write(&b->draft, name, printed.data, printed.length, err) &&
	          digest_bytes(printed.data, printed.length, &digest, err) &&
	          write_card(b, &digest, err);
	text_free(&printed);
	return ok;
}

static bool fill_draft(struct builder *b, error *err)
{
	b->files = tree_new();
	b->index = tree_new();
	tree_object(&b->index, b->index.root, "metadata");
	b->weight_map = tree_object(&b->index, b->index.root, "weight_map");
	return choose_weights(b, err) && lay_out_weights(b, err) && write_index(b, err) &&
	       write_configs(b, err) && add_texts(b, err) && add_manifests(b, err) &&
	       write_list_and_card(b, err);
}

static void free_builder(struct builder *b)
{
	tree_free(&b->files);
	tree_free(&b->index);
	close_pieces(b);
	text_free(&b->scale_bytes);
	json_free(&b->base_config);
	amax_free(&b->amax);
	for (int i = 0; i < b->set_count; i++)
		variants_free(&b->sets[i]);
	coverage_free(&b->coverage);
	baseline_free(&b->baseline);
	arena_free(&b->memory);
}

bool assemble_checkpoint(const struct assembly *a, struct assembled *done, error *err)
{
	struct builder b = { .a = a };
	bool ok = load_inputs(&b, err) && draft_begin(&b.draft, a->out, err);
	if (ok) {
		ok = fill_draft(&b, err);
		if (!ok)
			draft_abandon(&b.draft);
		ok = ok && draft_publish(&b.draft, err);
		const cJSON *stand_in = cJSON_GetObjectItemCaseSensitive(b.baseline.doc.root,
		                                                         "stand_in");
		*done = (struct assembled){ .selected = b.coverage.selected,
			.total = b.coverage.total, .delivered_bits = b.coverage.delivered_bits,
			.stand_in = cJSON_IsTrue(stand_in),
			.written = b.written };
		name_elements(&b, done->elements, sizeof done->elements);
	}
	free_builder(&b);
	return ok;
}
