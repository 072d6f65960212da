/* Records of probes as tables; see probes.h. What they hold is from tools/probe.py. */
#include "lib/report/probes.h"

#include <string.h>

#include "lib/artifact/digest.h"
#include "lib/base/file.h"
#include "lib/report/format.h"

static const cJSON *item_of(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = item_of(object, name);
	return cJSON_IsString(item) ? item->valuestring : "";
}

/* Whether the checkpoint is still the one that was loaded. The base has no list. */
static bool is_current(const cJSON *entry)
{
	struct digest digest;
	uint64_t bytes;
	error unused;
	const char *list = text_of(entry, "list");
	return !*list || (digest_file(list, &digest, &bytes, &unused) &&
	                  strcmp(digest.hex, text_of(entry, "files")) == 0);
}

/* Whether it says what the unquantised model says in the same program. */
static const char *verdict(const cJSON *record, const cJSON *entry)
{
	const cJSON *base = item_of(item_of(record, "checkpoints"), "base");
	if (!is_current(entry))
		return "of an earlier export";
	if (!cJSON_IsTrue(item_of(entry, "loads")))
		return "FAILS";
	if (entry == base)
		return "answers";
	return cJSON_Compare(item_of(entry, "answers"), item_of(base, "answers"), true)
	               ? "answers, as the base" : "answers, otherwise than the base";
}

/* The exact error, or what was answered, on one line. */
static void add_finding(const cJSON *entry, text *out)
{
	const cJSON *answers = item_of(entry, "answers");
	text_puts(out, text_of(entry, "error"));
	for (const cJSON *a = answers ? answers->child : NULL; a; a = a->next)
		if (cJSON_IsString(a))
			text_printf(out, "%s\"%s\"", a == answers->child ? "" : " / ", a->valuestring);
	for (size_t i = 0; i < out->length && !out->failed; i++)
		if (strchr("\n\r\t|", out->data[i]))
			out->data[i] = ' ';
}

/* "vllm 0.32.0, torch 2.13.0, on cpu" */
static void add_program(const struct found_probe *p, text *out)
{
	const cJSON *beside = item_of(p->record, "beside"), *all;
	text_printf(out, "%s %s", p->program, text_of(p->record, "version"));
	for (const cJSON *b = beside ? beside->child : NULL; b; b = b->next)
		if (cJSON_IsString(b) && strcmp(b->string, p->program) != 0 &&
		    strcmp(b->valuestring, "unknown") != 0)
			text_printf(out, ", %s %s", b->string, b->valuestring);
	all = item_of(p->record, "checkpoints");
	for (const cJSON *entry = all ? all->child : NULL; entry; entry = entry->next)
		if (*text_of(entry, "device")) {
			text_printf(out, ", on %s", text_of(entry, "device"));
			return;
		}
}

static const char SECTION[] = "What programs did with them";

bool print_probes_markdown(const struct findings *f, text *out, error *err)
{
	text_printf(out, "\n## %s\n", SECTION);
	for (int i = 0; i < f->probe_count; i++) {
		const struct found_probe *p = &f->probes[i];
		const cJSON *all = item_of(p->record, "checkpoints");
		text_puts(out, "\n### ");
		if (!p->record) {
			text_printf(out, "%s\n\n" NOT_THERE " (`ninja probe_%s`)\n", p->program,
			            p->program);
			continue;
		}
		add_program(p, out);
		text_puts(out, "\n\n|checkpoint|it|finding|\n|---|---|---|\n");
		for (const cJSON *entry = all ? all->child : NULL; entry; entry = entry->next) {
			text finding = { 0 };
			add_finding(entry, &finding);
			text_printf(out, "|%s|%s|%s|\n", entry->string, verdict(p->record, entry),
			            finding.data ? finding.data : "");
			out->failed |= finding.failed;
			text_free(&finding);
		}
	}
	return text_ok(out, err);
}

bool print_probes_page(const struct findings *f, text *out, error *err)
{
	text_printf(out, "<h2>%s</h2>\n", SECTION);
	for (int i = 0; i < f->probe_count; i++) {
		const struct found_probe *p = &f->probes[i];
		const cJSON *all = item_of(p->record, "checkpoints");
		if (!p->record) {
			text_printf(out, "<h3>%s</h3>\n<p class=missing>" NOT_THERE
			            " (ninja probe_%s)</p>\n", p->program, p->program);
			continue;
		}
		text_puts(out, "<h3>");
		add_program(p, out);
		text_puts(out, "</h3>\n<div class=scroll><table><thead><tr><th>Checkpoint</th>"
		          "<th>It</th><th>Finding</th></tr></thead><tbody>\n");
		for (const cJSON *entry = all ? all->child : NULL; entry; entry = entry->next) {
			text finding = { 0 };
			add_finding(entry, &finding);
			text_puts(out, "<tr><td>");
			add_escaped(out, entry->string);
			text_printf(out, "</td><td>%s</td><td>", verdict(p->record, entry));
			add_escaped(out, finding.data ? finding.data : "");
			text_puts(out, "</td></tr>\n");
			out->failed |= finding.failed;
			text_free(&finding);
		}
		text_puts(out, "</tbody></table></div>\n");
	}
	return text_ok(out, err);
}
