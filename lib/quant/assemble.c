/* Assembling a checkpoint; see assemble.h.
 *
 * Weights come from the store; scales, the index and the configurations are written
 * here; what is said about them all comes last (describe.h). */
#include "lib/quant/assemble.h"

#include <string.h>

#include "lib/artifact/card.h"
#include "lib/checkpoint/model_files.h"
#include "lib/model/linears.h"
#include "lib/quant/assemble_parts.h"

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
		if (!fits_profile(&b->sets[i], a->about.profile))
			return fail(err, EXIT_BAD_INPUT, "%s: expected pieces for the %s profile, found "
			            "those for %s", a->quantized[i], profile_name(a->about.profile),
			            profile_name(b->sets[i].profile));
	}
	return b->sets != NULL;
}

static bool load_inputs(struct builder *b, error *err)
{
	const struct assembly *a = b->a;
	char path[PATH_BYTES];
	return model_config_load(&b->config, a->about.model, err) &&
	       list_linears(&b->config, &b->memory, &b->linears, &b->linear_count, err) &&
	       join_path(path, sizeof path, a->about.slice, SELECTION_FILE, err) &&
	       selection_read(&b->selection, path, err) &&
	       description_read(&b->described, &a->about, err) && read_sets(b, err) &&
	       amax_read(&b->amax, a->amax, b->linears, b->linear_count, err) &&
	       join_path(path, sizeof path, a->about.model, "config.json", err) &&
	       json_load(&b->base_config, path, MAX_TEXT_BYTES, err);
}

static bool write_index(struct builder *b, error *err)
{
	text printed = { 0 };
	tree_number(&b->index, cJSON_GetObjectItemCaseSensitive(b->index.root, "metadata"),
	            "total_size", b->total_bytes);
	bool ok = tree_finish(&b->index, &printed, err) &&
	          add_text(&b->to, "model.safetensors.index.json", &printed, err);
	text_free(&printed);
	return ok;
}

/* ---- configurations, texts, manifests ---- */

static bool write_configs(struct builder *b, error *err)
{
	text config = { 0 }, quant = { 0 };
	bool fp8_cache = b->selection.kv_cache.name != NULL;
	bool ok = print_config(b->a->about.profile, &b->base_config, b->decisions, b->linear_count,
	                       fp8_cache, &config, err) &&
	          add_text(&b->to, "config.json", &config, err);
	if (ok && profile_has_hf_quant_config(b->a->about.profile, b->decisions, b->linear_count))
		ok = print_hf_quant_config(b->decisions, b->linear_count, fp8_cache, &quant, err) &&
		     add_text(&b->to, "hf_quant_config.json", &quant, err);
	text_free(&config);
	text_free(&quant);
	return ok;
}

/* The base's own files, byte for byte; its README makes room for the model card. */
static bool add_texts(struct builder *b, error *err)
{
	struct file_names names;
	const char *model = b->a->about.model;
	if (!list_model_files(model, FILES_TEXTS, &b->memory, &names, err))
		return false;
	for (int i = 0; i < names.count; i++) {
		char path[PATH_BYTES];
		if (strcmp(names.names[i], CARD_FILE) != 0 &&
		    !(join_path(path, sizeof path, model, names.names[i], err) &&
		      add_shared(&b->to, names.names[i], path, err)))
			return false;
	}
	return true;
}

static bool fill_draft(struct builder *b, error *err)
{
	b->index = tree_new();
	tree_object(&b->index, b->index.root, "metadata");
	b->weight_map = tree_object(&b->index, b->index.root, "weight_map");
	return choose_weights(b, err) && lay_out_weights(b, err) && write_index(b, err) &&
	       write_configs(b, err) && add_texts(b, err) &&
	       add_description(&b->to, &b->described, err);
}

static void free_builder(struct builder *b)
{
	tree_free(&b->index);
	close_pieces(b);
	text_free(&b->scale_bytes);
	json_free(&b->base_config);
	amax_free(&b->amax);
	for (int i = 0; i < b->set_count; i++)
		variants_free(&b->sets[i]);
	description_free(&b->described);
	selection_free(&b->selection);
	arena_free(&b->memory);
}

bool assemble_checkpoint(const struct assembly *a, struct assembled *done, error *err)
{
	struct builder b = { .a = a };
	bool ok = load_inputs(&b, err) && checkpoint_begin(&b.to, a->tree, a->out, err);
	if (ok) {
		const struct coverage *c = &b.described.coverage;
		ok = fill_draft(&b, err);
		if (!ok)
			checkpoint_abandon(&b.to);
		ok = ok && draft_publish(&b.to.draft, err);
		const cJSON *stand_in = cJSON_GetObjectItemCaseSensitive(
			b.described.baseline.doc.root, "stand_in");
		*done = (struct assembled){ .selected = c->selected, .total = c->total,
			.delivered_bits = c->delivered_bits, .stand_in = cJSON_IsTrue(stand_in),
			.written = b.to.written };
		memcpy(done->elements, b.described.elements, sizeof done->elements);
		checkpoint_end(&b.to);
	}
	free_builder(&b);
	return ok;
}
