/* Rules opened from configs that are spelt out in a test. Everything here fails the
 * test when it cannot do its work. */
#ifndef QUERN_TESTS_SUPPORT_CONSUMER_RULES_H
#define QUERN_TESTS_SUPPORT_CONSUMER_RULES_H

#include "lib/base/json.h"
#include "lib/checkpoint/consumers.h"

/* A config.json in either language around the entries of its list. */
#define MODELOPT(list) \
	"{\"quantization_config\": {\"quant_method\": \"modelopt\", \"quant_algo\": " \
	"\"FP8\", \"ignore\": [" list "]}}"

#define FP8_TENSOR \
	"{\"num_bits\": 8, \"type\": \"float\", \"strategy\": \"tensor\", " \
	"\"dynamic\": false}"

#define COMPRESSED(list) \
	"{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", " \
	"\"format\": \"float-quantized\", \"quantization_status\": \"compressed\", " \
	"\"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": " \
	FP8_TENSOR ", \"input_activations\": " FP8_TENSOR "}}, \"ignore\": [" list "]}}"

struct consumer_rules *open_rules(const json_doc *config,
                                  const json_doc *hf_quant_config);

/* Of a config.json alone. */
struct consumer_rules *rules_of(const char *config);

/* Whether the consumer quantises the module; consumer_decision must not fail. */
bool decision(const struct consumer_rules *rules, enum consumer c, const char *module);

#endif
