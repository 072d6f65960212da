/* Writing safetensors files into the store; see tensor_object.h. */
#include "lib/quant/tensor_object.h"

enum { CHUNK_BYTES = 4 << 20 };

bool object_write_header(struct object_writer *w, const struct tensor *tensors,
                         size_t count, error *err)
{
	text header = { 0 };
	bool ok = safetensors_header(tensors, count, &header, err);
	if (ok)
		ok = object_write(w, header.data, header.length, err);
	else
		object_abandon(w);
	text_free(&header);
	return ok;
}

static bool write_tensor(struct object_writer *w, const struct tensor *t, error *err)
{
	const char *data = t->data;
	for (size_t at = 0; at < t->bytes; at += CHUNK_BYTES) {
		size_t some = t->bytes - at < CHUNK_BYTES ? t->bytes - at : CHUNK_BYTES;
		if (!object_write(w, data + at, some, err))
			return false;
		if (t->file)
			forget_pages(data + at, some);
	}
	return true;
}

bool store_tensors(const struct store *s, const struct tensor *tensors, size_t count,
                   struct output *out, error *err)
{
	struct object_writer w;
	bool ok = object_begin(&w, s, err) && object_write_header(&w, tensors, count, err);
	for (size_t i = 0; ok && i < count; i++)
		ok = write_tensor(&w, &tensors[i], err);
	return ok && object_commit(&w, out, err);
}
