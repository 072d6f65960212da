/* Ranking; see ranking.h. */
#include "lib/quant/ranking.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/artifact/digest.h"

static const double NONE_BITS = 16;

/* ---- reading ---- */

/* The format of that name, made when it is new; NULL on failure. */
static struct scored_format *find_format(struct ranking *r, const struct part_format *part,
                                         const char *path, error *err)
{
	for (int i = 0; i < r->format_count; i++)
		if (strcmp(r->formats[i].part.name, part->name) == 0)
			return &r->formats[i];
	if (r->format_count == MAX_FORMATS - 1) {
		fail(err, EXIT_BAD_INPUT, "%s: expected at most %d formats", path, MAX_FORMATS - 1);
		return NULL;
	}
	struct scored_format *f = &r->formats[r->format_count];
	*f = (struct scored_format){ .part = *part };
	f->format = format_find(part->element, part->granularity);
	if (!f->format) {
		fail(err, EXIT_BAD_INPUT, "%s: no format \"%s\", \"%s\"", path, part->element,
		     part->granularity);
		return NULL;
	}
	f->name = arena_printf(&r->memory, err, "%s(effective-bits: %.1f)", part->name,
	                       f->format->bits);
	r->format_count += f->name != NULL;
	return f->name ? f : NULL;
}

/* Which format each part is of; all of one kind. */
static bool read_heads(struct ranking *r, const char *const *paths, int count,
                       int *format_of, error *err)
{
	for (int i = 0; i < count; i++) {
		struct part_format part;
		enum block_kind kind;
		if (!read_part_head(paths[i], &kind, &part, &r->memory, err))
			return false;
		if (kind == BLOCK_AMAX || (i > 0 && kind != r->kind))
			return fail(err, EXIT_BAD_INPUT, "%s: expected %s scores, found %s", paths[i],
			            i > 0 ? block_kind_name(r->kind) : "any", block_kind_name(kind));
		r->kind = kind;
		struct scored_format *f = find_format(r, &part, paths[i], err);
		if (!f)
			return false;
		format_of[i] = (int)(f - r->formats);
	}
	return count > 0 || fail(err, EXIT_USAGE, "expected at least one part");
}

static bool read_blocks(struct ranking *r, const char *const *paths, int count, error *err)
{
	int *format_of = arena_alloc(&r->memory, (size_t)count, sizeof *format_of, err);
	const char **own = format_of ? arena_alloc(&r->memory, (size_t)count, sizeof *own, err)
	                             : NULL;
	if (!own || !read_heads(r, paths, count, format_of, err))
		return false;
	for (int f = 0; f < r->format_count; f++) {
		int mine = 0;
		for (int i = 0; i < count; i++)
			if (format_of[i] == f)
				own[mine++] = paths[i];
		if (!read_parts(&r->formats[f].blocks, own, mine, r->kind, err) ||
		    !merge_blocks(&r->formats[f].blocks, r->kind, &r->formats[f].merged, err))
			return false;
		if (r->formats[f].blocks.count != r->formats[0].blocks.count)
			return fail(err, EXIT_BAD_INPUT,
			            "%s: expected %d blocks, as of %s, found %d", own[0],
			            r->formats[0].blocks.count, r->formats[0].part.name,
			            r->formats[f].blocks.count);
	}
	return true;
}

static int compare_formats(const void *a, const void *b)
{
	const struct scored_format *left = a, *right = b;
	if (left->format->bits != right->format->bits)
		return left->format->bits < right->format->bits ? -1 : 1;
	return strcmp(left->part.name, right->part.name);
}

/* ---- scores of groups ---- */

static double value_of(const struct block *b, const char *linear)
{
	for (int i = 0; i < b->count; i++)
		if (strcmp(b->names[i], linear) == 0)
			return b->values[i];
	return -1;
}

double group_score(const struct ranking *r, const struct group *group,
                   const struct block *b)
{
	int members = r->kind == BLOCK_KL ? 1 : group->member_count;
	double sum = 0;
	for (int m = 0; m < members; m++) {
		double value = value_of(b, r->linears[group->members[m]].name);
		if (value < 0)
			return -1;
		sum += value;
	}
	return sum;
}

static void add_candidate(struct scored_group *out, const char *name, double score,
                          double cost)
{
	out->formats[out->format_count] = name;
	out->scores[out->format_count] = score;
	out->costs[out->format_count++] = cost;
}

/* ModelOpt's rule: more bits never score worse. */
static void lower_to_running_minimum(struct scored_group *group)
{
	for (int f = 1; f < group->format_count; f++)
		if (group->scores[f] > group->scores[f - 1])
			group->scores[f] = group->scores[f - 1];
}

/* A group of which only some members were measured has a fault behind it. */
static bool check_members(const struct ranking *r, const struct group *group,
                          const struct scored_format *f, error *err)
{
	for (int m = 0; m < group->member_count && r->kind != BLOCK_KL; m++)
		if (value_of(&f->merged, r->linears[group->members[m]].name) >= 0)
			return fail(err, EXIT_BAD_INPUT, "%s: %s: expected a score of every member of "
			            "%s", r->facts->file_name, f->part.name, group->name);
	return true;
}

/* The group's candidates: every format that has its score, and NONE. */
static bool score_group(const struct ranking *r, const struct group *group,
                        struct scored_group *out, error *err)
{
	*out = (struct scored_group){ .name = group->name };
	for (int f = 0; f < r->format_count; f++) {
		const struct scored_format *format = &r->formats[f];
		double score = group_score(r, group, &format->merged);
		if (score < 0 && !check_members(r, group, format, err))
			return false;
		if (score >= 0)
			add_candidate(out, format->name, score,
			              (double)group->weights * format->format->bits / 16);
	}
	add_candidate(out, FORMAT_NONE, 0, (double)group->weights * NONE_BITS / 16);
	if (strcmp(r->facts->numerics, "modelopt") == 0)
		lower_to_running_minimum(out);
	out->importance = out->scores[0];
	return true;
}

static bool score_groups(struct ranking *r, const struct group_list *all, error *err)
{
	struct baseline *b = &r->baseline;
	size_t count = (size_t)all->count;
	b->groups = arena_alloc(&b->memory, count, sizeof *b->groups, err);
	r->groups.groups = b->groups ? arena_alloc(&r->memory, count, sizeof *all->groups, err)
	                             : NULL;
	b->name = r->groups.groups
	          ? arena_printf(&b->memory, err, "%s", r->facts->file_name) : NULL;
	if (!b->name)
		return false;
	for (int g = 0; g < all->count; g++) {
		struct group *kept = &r->groups.groups[b->count];
		*kept = all->groups[g];
		if (!score_group(r, kept, &b->groups[b->count], err))
			return false;
		b->count += b->groups[b->count].format_count > 1;
	}
	r->groups.count = b->count;
	return b->count > 0 || fail(err, EXIT_BAD_INPUT, "%s: expected scores of some group, "
	                            "found none", r->facts->file_name);
}

bool ranking_read(struct ranking *r, const struct baseline_facts *facts,
                  const struct linear_shape *linears, const struct group_list *all,
                  const struct amax_table *amax, const char *const *paths, int path_count,
                  error *err)
{
	*r = (struct ranking){ .facts = facts, .linears = linears, .amax = amax };
	r->formats = arena_alloc(&r->memory, MAX_FORMATS, sizeof *r->formats, err);
	bool ok = r->formats && read_blocks(r, paths, path_count, err);
	if (ok) {
		qsort(r->formats, (size_t)r->format_count, sizeof *r->formats, compare_formats);
		ok = score_groups(r, all, err) && rank_groups(&r->baseline, err);
	}
	if (!ok)
		ranking_free(r);
	return ok;
}

/* ---- import ---- */

/* The group's weights must be the model's, and its candidates' costs must say `bits`:
 * a manifest of another model or format would pass for this one's otherwise. */
static bool check_imported(const struct ranking *r, const struct scored_group *scored,
                           const struct group *group, double bits, error *err)
{
	const char *file = r->baseline.doc.name;
	if (!group)
		return fail(err, EXIT_BAD_INPUT, "%s: %s: the model has no such group", file,
		            scored->name);
	double weights = (double)group->weights;
	for (int f = 0; is_candidate(scored) && f < scored->format_count; f++) {
		double expected = f == scored->format_count - 1 ? weights : weights * bits / 16;
		if (scored->costs[f] != expected)
			return fail(err, EXIT_BAD_INPUT, "%s: %s: %s: expected a cost of %.17g (%g bits "
			            "a weight), found %.17g", file, scored->name, scored->formats[f],
			            expected, f == scored->format_count - 1 ? NONE_BITS : bits,
			            scored->costs[f]);
	}
	return true;
}

/* The candidates by name, for the manifest; what stands in for the blocks' key is the
 * digest of the file. */
static bool import_formats(struct ranking *r, const struct format *own, double samples,
                           error *err)
{
	struct digest digest;
	const struct baseline *b = &r->baseline;
	if (!digest_bytes(b->doc.text, b->doc.size, &digest, err))
		return false;
	const char *key = arena_printf(&r->memory, err, "%s", digest.hex);
	for (int g = 0; key && g < b->count; g++)
		for (int f = 0; f < b->groups[g].format_count - 1; f++) {
			const char *name = b->groups[g].formats[f];
			int i = 0;
			while (i < r->format_count && strcmp(r->formats[i].name, name) != 0)
				i++;
			if (i < r->format_count || i == MAX_FORMATS)
				continue;
			struct scored_format *format = &r->formats[r->format_count++];
			format->name = name;
			format->format = own;
			format->part.name = arena_printf(&r->memory, err, "%.*s",
			                                 (int)strcspn(name, "("), name);
			format->merged.key = key;
			format->merged.samples = (int64_t)samples;
			if (!format->part.name)
				return false;
		}
	return key && (r->format_count > 0 ||
	               fail(err, EXIT_BAD_INPUT, "%s: no group has a format to choose",
	                    b->doc.name));
}

static bool import_groups(struct ranking *r, const struct group_list *all, double bits,
                          error *err)
{
	const struct baseline *b = &r->baseline;
	r->groups.groups = arena_alloc(&r->memory, (size_t)b->count, sizeof *r->groups.groups,
	                               err);
	if (!r->groups.groups)
		return false;
	for (int g = 0; g < b->count; g++) {
		const struct group *group = find_group(all, b->groups[g].name);
		if (!check_imported(r, &b->groups[g], group, bits, err))
			return false;
		r->groups.groups[r->groups.count++] = *group;
		b->groups[g].name = r->groups.groups[g].name;
	}
	return true;
}

static bool import_manifest(struct ranking *r, const struct group_list *all,
                            const char *path, const struct format *format, error *err)
{
	const char *method = "gradient";
	double samples = 0;
	if (!baseline_read(&r->baseline, path, err))
		return false;
	const json_doc *doc = &r->baseline.doc;
	const cJSON *scheme = json_object(doc, doc->root, "scheme", err);
	if (!scheme || !json_text_or(doc, scheme, "auto_quantize_method", &method, err) ||
	    !json_number_or(doc, scheme, "auto_quantize_score_size", 0, 1e9, &samples, err))
		return false;
	if (!score_kind_from_name(method, &r->kind))
		return json_fail(doc, scheme, err, "expected gradient or kl_div, found \"%s\"",
		                 method);
	return import_formats(r, format, samples, err) &&
	       import_groups(r, all, format->bits, err);
}

bool ranking_import(struct ranking *r, const struct baseline_facts *facts,
                    const struct linear_shape *linears, const struct group_list *all,
                    const struct amax_table *amax, const char *path,
                    const struct format *format, error *err)
{
	*r = (struct ranking){ .facts = facts, .linears = linears, .amax = amax };
	r->formats = arena_alloc(&r->memory, MAX_FORMATS, sizeof *r->formats, err);
	if (r->formats && import_manifest(r, all, path, format, err))
		return true;
	ranking_free(r);
	return false;
}

void ranking_free(struct ranking *r)
{
	for (int f = 0; f < r->format_count; f++)
		block_list_free(&r->formats[f].blocks);
	baseline_free(&r->baseline);
	arena_free(&r->memory);
	*r = (struct ranking){ 0 };
}
