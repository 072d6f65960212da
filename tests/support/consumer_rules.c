/* See consumer_rules.h. */
#include "tests/support/consumer_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/support/decisions.h"

struct consumer_rules *open_rules(const json_doc *config,
                                  const json_doc *hf_quant_config)
{
	struct consumer_rules *rules;
	error err;
	const json_doc *other = hf_quant_config && hf_quant_config->root ? hf_quant_config
	                                                                 : NULL;
	if (!consumer_open(&rules, config, other, &err))
		fail_msg("%s", err.text);
	return rules;
}

bool decision(const struct consumer_rules *rules, enum consumer c, const char *module)
{
	const struct linear_form *form;
	error err;
	if (!consumer_decision(rules, c, module, &form, NULL, &err))
		fail_msg("%s", err.text);
	return form != NULL;
}

struct consumer_rules *rules_of(const char *config)
{
	json_doc doc;
	parse_json(&doc, "config.json", "%s", config);
	struct consumer_rules *rules = open_rules(&doc, NULL);
	json_free(&doc);
	return rules;
}
