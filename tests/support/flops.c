/* See flops.h. */
#include "tests/support/flops.h"

/* The groups of a block, in order. */
enum { QKV, OUT, GATE_UP, DOWN, PARTS };

/* One block of a tower. */
struct block_flops {
	double linears[PARTS];
	double attention; /* between QKV and OUT */
};

/* A tower's parts that its blocks share. */
struct vision_flops {
	struct block_flops windows, full;
	double embed, merger[2];
};

static double product(double rows, double out, double in)
{
	return 2 * rows * out * in;
}

static double linears_of(const struct block_flops *b)
{
	return b->linears[QKV] + b->linears[OUT] + b->linears[GATE_UP] + b->linears[DOWN];
}

static double all_of(const struct block_flops *b)
{
	return linears_of(b) + b->attention;
}

static struct block_flops text_block(const struct text_config *t, double rows)
{
	double q = (double)t->heads * t->head_dim, kv = (double)t->kv_heads * t->head_dim;
	return (struct block_flops){
		.linears = { product(rows, q + 2 * kv, t->hidden), product(rows, t->hidden, q),
		             product(rows, 2.0 * t->intermediate, t->hidden),
		             product(rows, t->hidden, t->intermediate) },
		.attention = 4 * q * rows * (rows + 1) / 2,
	};
}

/* The squares of pieces of a side of `length` cut every `step`. A window's pairs are the
 * square of its height times its width. */
static double sum_of_squares(int length, int step)
{
	double sum = 0;
	for (int at = 0; at < length; at += step) {
		double piece = length - at < step ? length - at : step;
		sum += piece * piece;
	}
	return sum;
}

static struct vision_flops vision_parts(const struct vision_config *v,
                                        const struct sample_shape *s)
{
	double rows = (double)s->grid_h * s->grid_w;
	double merged = (double)v->hidden * v->merge * v->merge;
	double cells = rows / ((double)v->merge * v->merge);
	int window = v->window / v->patch; /* a side, in patches */
	struct block_flops block = {
		.linears = { product(rows, 3.0 * v->hidden, v->hidden),
		             product(rows, v->hidden, v->hidden),
		             product(rows, 2.0 * v->intermediate, v->hidden),
		             product(rows, v->hidden, v->intermediate) },
	};
	struct vision_flops f = { .windows = block, .full = block,
		.embed = product(rows, v->hidden, v->patch_values),
		.merger = { product(cells, merged, merged),
		            product(cells, v->out_hidden, merged) } };
	f.windows.attention = 4.0 * v->hidden * sum_of_squares(s->grid_h, window) *
	                      sum_of_squares(s->grid_w, window);
	f.full.attention = 4.0 * v->hidden * rows * rows;
	return f;
}

struct forward_flops forward_flops(const struct model_config *c,
                                   const struct sample_shape *s)
{
	struct block_flops text = text_block(&c->text, s->tokens);
	struct vision_flops vision = vision_parts(&c->vision, s);
	struct forward_flops f = { .text = c->text.layers * all_of(&text),
		.head = product(1, c->text.vocab, c->text.hidden),
		.vision = vision.embed + vision.merger[0] + vision.merger[1] };
	for (int i = 0; i < c->vision.depth; i++)
		f.vision += all_of(c->vision.full_attention[i] ? &vision.full : &vision.windows);
	return f;
}

static double gradient(const struct model_config *c, const struct sample_shape *s)
{
	struct block_flops text = text_block(&c->text, s->tokens);
	struct vision_flops vision = vision_parts(&c->vision, s);
	struct forward_flops f = forward_flops(c, s);
	double linears = c->text.layers * linears_of(&text) +
	                 c->vision.depth * linears_of(&vision.full) + vision.merger[0] +
	                 vision.merger[1];
	double attention = f.text + f.vision - linears - vision.embed;
	double forward = f.text + f.vision + s->graded * f.head;
	double perturbed = linears + vision.embed;
	double backward = linears + 2 * attention + s->graded * f.head;
	return forward + perturbed + backward;
}

/* What the groups of a block cost, each from its own linears to the block's end and then
 * `after`. */
static double replay_block(const struct block_flops *b, double after)
{
	double rest = 0, sum = 0;
	for (int part = PARTS - 1; part >= 0; part--) {
		rest += b->linears[part] + (part == QKV ? b->attention : 0);
		sum += rest + after;
	}
	return sum;
}

static double divergence(const struct model_config *c, const struct sample_shape *s)
{
	struct block_flops text = text_block(&c->text, s->tokens);
	struct vision_flops vision = vision_parts(&c->vision, s);
	struct forward_flops f = forward_flops(c, s);
	double after = s->tokens * f.head, sum = f.text + f.vision + after;
	for (int i = 0; i < c->text.layers; i++, after += all_of(&text))
		sum += replay_block(&text, after);
	if (s->grid_h == 0)
		return sum;
	for (int i = 1; i >= 0; i--)
		sum += after += vision.merger[i];
	for (int i = c->vision.depth - 1; i >= 0; i--) {
		const struct block_flops *b = c->vision.full_attention[i] ? &vision.full
		                                                          : &vision.windows;
		sum += replay_block(b, after);
		after += all_of(b);
	}
	return sum + after + vision.embed;
}

double work_flops(const struct model_config *c, enum flops_work work,
                  const struct sample_shape *s)
{
	struct forward_flops f = forward_flops(c, s);
	switch (work) {
	case FLOPS_CALIBRATE:
		return f.text + f.vision;
	case FLOPS_GRADIENT:
		return gradient(c, s);
	case FLOPS_KL:
		return divergence(c, s);
	case FLOPS_NONE:
		break;
	}
	return 0;
}
