/* See material.h. */
#include "lib/quant/material.h"

#include "lib/model/caches.h"

static bool check_calibrated(const struct material *m, const char *path, error *err)
{
	for (int g = 0; g < m->groups.count; g++)
		for (int i = 0; i < m->groups.groups[g].member_count; i++) {
			int linear = m->groups.groups[g].members[i];
			if (m->amax.amax[linear] < 0)
				return fail(err, EXIT_BAD_INPUT, "%s: expected an amax of %s, found none: "
				            "it was not calibrated", path, m->linears[linear].name);
		}
	return true;
}

/* The model's groups that the baseline has candidates for. */
static bool match_groups(struct material *m, error *err)
{
	const struct baseline *b = &m->ranked;
	struct group_list all;
	m->group_of = arena_alloc(&m->memory, (size_t)b->count, sizeof *m->group_of, err);
	m->groups.groups = arena_alloc(&m->memory, (size_t)b->count, sizeof *m->groups.groups,
	                               err);
	if (!m->group_of || !m->groups.groups ||
	    !make_groups(m->linears, m->linear_count, NULL, 0, &m->memory, &all, err))
		return false;
	for (int i = 0; i < b->count; i++) {
		const struct group *group = find_group(&all, b->groups[i].name);
		if (!group)
			return fail(err, EXIT_BAD_INPUT, "%s: group %s is none of the model's",
			            b->doc.name, b->groups[i].name);
		m->group_of[i] = is_candidate(&b->groups[i]) ? m->groups.count : -1;
		if (is_candidate(&b->groups[i]))
			m->groups.groups[m->groups.count++] = *group;
	}
	return true;
}

static bool add_format(struct material *m, const char *name, error *err)
{
	const struct format *format = provenance_format(&m->ranked.doc, name, err);
	for (int i = 0; i < m->format_count; i++)
		if (m->formats[i] == format)
			return true;
	if (format)
		m->formats[m->format_count++] = format;
	return format != NULL;
}

static bool list_formats(struct material *m, error *err)
{
	int most = 0;
	while (format_at(most))
		most++;
	m->formats = arena_alloc(&m->memory, (size_t)most, sizeof *m->formats, err);
	for (int i = 0; m->formats && i < m->ranked.count; i++)
		for (int f = 0; f < m->ranked.groups[i].format_count - 1; f++)
			if (!add_format(m, m->ranked.groups[i].formats[f], err))
				return false;
	return m->formats != NULL;
}

static bool has_folds(const struct material *m, const struct format *format)
{
	for (int i = 0; i < m->folds.count; i++)
		if (m->folds.folds[i].format == format)
			return true;
	return false;
}

/* What was scored with channel scales is measured with them. */
static bool read_folds(struct material *m, const struct option_list *paths, error *err)
{
	for (int i = 0; i < paths->count; i++)
		if (!folds_read(&m->folds, paths->values[i], NULL, m->linears, m->linear_count, err))
			return false;
	for (int i = 0; i < m->format_count; i++)
		if (m->formats[i]->channel_scales && !has_folds(m, m->formats[i]))
			return fail(err, EXIT_USAGE, "--fold: expected a file for %s %s",
			            m->formats[i]->element, m->formats[i]->granularity);
	return true;
}

static bool load(struct material *m, const char *model, const char *amax,
                 const char *manifest, const struct option_list *folds, error *err)
{
	struct model_config config;
	if (!model_config_load(&config, model, err) ||
	    !list_linears(&config, &m->memory, &m->linears, &m->linear_count, err) ||
	    !baseline_read(&m->ranked, manifest, err) ||
	    !provenance_read(&m->numbers, &m->ranked.doc, err) || !match_groups(m, err) ||
	    !list_formats(m, err) || !read_folds(m, folds, err))
		return false;
	m->cache_count = count_caches(&config);
	return amax_read(&m->amax, amax, m->linears, m->linear_count, err) &&
	       check_calibrated(m, amax, err);
}

bool material_load(struct material *m, const char *model, const char *amax,
                   const char *manifest, const struct option_list *folds, error *err)
{
	*m = (struct material){ 0 };
	if (load(m, model, amax, manifest, folds, err))
		return true;
	material_free(m);
	return false;
}

void material_free(struct material *m)
{
	if (m->ranked.count)
		baseline_free(&m->ranked);
	if (m->amax.amax)
		amax_free(&m->amax);
	folds_free(&m->folds);
	arena_free(&m->memory);
	*m = (struct material){ 0 };
}

void material_lend(const struct material *m, struct evaluation *job)
{
	job->linears = m->linears;
	job->linear_count = m->linear_count;
	job->groups = &m->groups;
	job->input_amax = m->amax.amax;
	job->cache_amax = m->amax.cache;
	job->numbers = m->numbers;
	job->folds = &m->folds;
}

bool material_has_cache(const struct material *m, error *err)
{
	return m->amax.cache_count == m->cache_count ||
	       json_fail(&m->amax.doc, m->amax.doc.root, err, AMAX_CACHE ": expected the %d parts "
	                 "of the key/value cache, found %d", m->cache_count, m->amax.cache_count);
}

const struct format *const *material_choice(struct material *m, const bool *keeps,
                                            const int *choice, error *err)
{
	const struct format **formats = arena_alloc(&m->memory, (size_t)m->groups.count,
	                                            sizeof *formats, err);
	for (int i = 0; formats && i < m->ranked.count; i++) {
		const char *name = m->ranked.groups[i].formats[choice ? choice[i] : 0];
		if (!keeps[i] || m->group_of[i] < 0)
			continue;
		formats[m->group_of[i]] = provenance_format(&m->ranked.doc, name, err);
		if (!formats[m->group_of[i]])
			return NULL;
	}
	return formats;
}
