/* Putting what the command line names in place of the catalog's; see
 * catalog_overrides.h. */
#include "lib/quant/catalog_overrides.h"

#include <string.h>

/* The folder name of a model given by path, made fit for a target's name. */
static const char *name_model(struct catalog *c, const char *path, error *err)
{
	size_t length = strlen(path);
	while (length > 0 && path[length - 1] == '/')
		length--;
	size_t start = length;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (start == length) {
		fail(err, EXIT_USAGE, "--model: expected a folder with a name, found \"%s\"", path);
		return NULL;
	}
	char *name = arena_text(&c->memory, path + start, length - start, err);
	for (char *p = name; p && *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
		else if (!(*p >= 'a' && *p <= 'z') && !(*p >= '0' && *p <= '9'))
			*p = '_';
	return name;
}

/* One model takes the place of all that the catalog names. */
static bool replace_models(struct catalog *c, const char *path, error *err)
{
	if (c->model_count == 0)
		return true;
	c->models[0].path = path;
	c->models[0].stand_in = false;
	c->models[0].name = name_model(c, path, err);
	c->model_count = 1;
	for (int i = 0; i < c->baseline_count; i++)
		c->baselines[i].model = &c->models[0];
	return c->models[0].name != NULL;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static void override_calibration(struct calibration *k, const struct catalog_overrides *o)
{
	const char *file = k->captions ? o->captions : o->calib_db;
	if (k->calib_db && o->image_root)
		k->image_root = o->image_root;
	if (!file)
		return;
	*(k->captions ? &k->captions : &k->calib_db) = file;
	k->data = last_part(file);
	k->stand_in = false;
}

/* The image root goes with the list: without one, the catalog's own list stays and so
 * do its images. */
static void override_evaluation(struct evaluation_set *k, const struct catalog_overrides *o)
{
	const char *file = k->captions ? o->captions : o->eval_list;
	if (!file)
		return;
	if (k->eval_list && o->image_root)
		k->image_root = o->image_root;
	*(k->captions ? &k->captions : &k->eval_list) = file;
	k->data = last_part(file);
	k->stand_in = false;
}

bool catalog_override(struct catalog *c, const struct catalog_overrides *o, error *err)
{
	if (o->model && !replace_models(c, o->model, err))
		return false;
	for (int i = 0; i < c->calibration_count; i++)
		override_calibration(&c->calibrations[i], o);
	for (int i = 0; i < c->evaluation_count; i++)
		override_evaluation(&c->evaluations[i], o);
	return true;
}
