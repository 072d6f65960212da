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

static bool match_groups(struct material *m, const char *path, error *err)
{
	size_t count = (size_t)m->ranked.count;
	m->group_of = arena_alloc(&m->memory, count, sizeof *m->group_of, err);
	for (int i = 0; m->group_of && i < m->ranked.count; i++) {
		const struct group *group = find_group(&m->groups, m->ranked.groups[i].name);
		if (!group)
			return fail(err, EXIT_BAD_INPUT, "%s: group %s is none of the model's", path,
			            m->ranked.groups[i].name);
		m->group_of[i] = (int)(group - m->groups.groups);
	}
	return m->group_of != NULL;
}

bool material_begin(struct material *m, const char *model, error *err)
{
	struct model_config config;
	*m = (struct material){ 0 };
	if (model_config_load(&config, model, err) &&
	    list_linears(&config, &m->memory, &m->linears, &m->linear_count, err)) {
		m->cache_count = count_caches(&config);
		return true;
	}
	material_free(m);
	return false;
}

bool material_load(struct material *m, const char *amax, const char *manifest, error *err)
{
	if (amax_read(&m->amax, amax, m->linears, m->linear_count, err) &&
	    check_calibrated(m, amax, err) && baseline_read(&m->ranked, manifest, err) &&
	    match_groups(m, manifest, err))
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
}

bool material_has_cache(const struct material *m, error *err)
{
	return m->amax.cache_count == m->cache_count ||
	       json_fail(&m->amax.doc, m->amax.doc.root, err, AMAX_CACHE ": expected the %d parts "
	                 "of the key/value cache, found %d", m->cache_count, m->amax.cache_count);
}

const bool *material_choice(struct material *m, const bool *ranked_keeps, error *err)
{
	bool *keeps = arena_alloc(&m->memory, (size_t)m->groups.count, sizeof *keeps, err);
	for (int i = 0; keeps && i < m->ranked.count; i++)
		keeps[m->group_of[i]] = ranked_keeps[i];
	return keeps;
}
