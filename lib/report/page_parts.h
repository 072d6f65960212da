/* The fixed parts of the HTML page: head, style, script. Nothing is loaded from
 * anywhere; an empty data: icon keeps browsers from asking for one. */
#ifndef QUERN_REPORT_PAGE_PARTS_H
#define QUERN_REPORT_PAGE_PARTS_H

#define PAGE_TOP \
	"<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>\n" \
	"<meta name=viewport content=\"width=device-width,initial-scale=1\">\n" \
	"<meta name=color-scheme content=\"light dark\">\n" \
	"<link rel=icon href=\"data:,\">\n<title>FP8 schemes of "

#define PAGE_STYLE \
	"</title>\n<style>\n" \
	":root{--back:#fff;--text:#1c2128;--soft:#59636e;--line:#d9dee3;--head:#f4f6f8;" \
	"--warn:#fff4d6;--k0:#2f6fde;--k1:#cf6a00;--k2:#1f9463;--k3:#c02a78;--k4:#7d55cc;" \
	"--k5:#7b7a12;--k6:#5b6672}\n" \
	"@media(prefers-color-scheme:dark){:root{--back:#14171c;--text:#e4e8ee;" \
	"--soft:#9aa5b1;--line:#303740;--head:#1d2229;--warn:#3a2f12;--k0:#78a6ff;" \
	"--k1:#f2a154;--k2:#56c795;--k3:#ee7db4;--k4:#b49af2;--k5:#c9c75c;--k6:#a3adb8}}\n" \
	"*{box-sizing:border-box}\n" \
	"body{margin:0 auto;max-width:1240px;padding:1rem;background:var(--back);" \
	"color:var(--text);font:15px/1.5 system-ui,sans-serif}\n" \
	"h1{font-size:1.6rem;line-height:1.2;overflow-wrap:anywhere}\n" \
	"h2{font-size:1.2rem;margin:2.2rem 0 .5rem;padding-top:.8rem;" \
	"border-top:1px solid var(--line);overflow-wrap:anywhere}\n" \
	"h3{font-size:1rem;margin:1.2rem 0 .3rem}\np{max-width:46rem}\n" \
	".warning{background:var(--warn);padding:.5rem .8rem;border-radius:6px}\n" \
	".missing{color:var(--soft);font-style:italic}\n" \
	".scroll{overflow-x:auto;margin:.5rem 0}\n" \
	"svg.mark{display:inline-block;width:1em;min-width:0;height:1em;" \
	"margin-right:.4em;vertical-align:-.12em}\n" \
	"table{border-collapse:collapse;font-size:13px;white-space:nowrap}\n" \
	"th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left}\n" \
	"td:first-child,th:first-child{position:sticky;left:0;background:var(--back)}\n" \
	"th{background:var(--head);white-space:normal;vertical-align:bottom}" \
	"th:first-child{background:var(--head)}\n" \
	".words{white-space:normal;min-width:8.5rem}\n" \
	".n{text-align:right;font-variant-numeric:tabular-nums}\n" \
	"th button{all:unset;cursor:pointer;font-weight:600}\n" \
	"th button:focus-visible{outline:2px solid var(--k0)}\n" \
	"th[aria-sort=ascending] button::after{content:\" \\2191\"}\n" \
	"th[aria-sort=descending] button::after{content:\" \\2193\"}\n" \
	"svg{display:block;width:100%;min-width:600px;max-width:960px;height:auto}\n" \
	".grid{stroke:var(--line);fill:none}.tick{fill:var(--soft);font-size:11px}\n" \
	".axis{fill:var(--soft);font-size:12px}.label{fill:var(--text);font-size:11px;" \
	"paint-order:stroke;stroke:var(--back);stroke-width:3px}\n" \
	".pareto{fill:none;stroke:var(--text);stroke-width:1.5;stroke-dasharray:5 4}\n" \
	".bar{fill:none;stroke-width:2;opacity:.45}.curve{fill:none;stroke-width:2}\n" \
	".legend{font-size:13px;color:var(--soft);margin:.3rem 0}\n" \
	".legend span{display:inline-block;margin-right:1rem;overflow-wrap:anywhere}\n" \
	"i{display:inline-block;width:.7em;height:.7em;border-radius:50%;" \
	"margin-right:.45em}\n" \
	"i.hollow{border:2px solid var(--soft)}" \
	"i.line{width:1.6em;height:0;border-radius:0;border-top:2px dashed var(--text);" \
	"vertical-align:middle}\n" \
	".c0{fill:var(--k0)}.c1{fill:var(--k1)}.c2{fill:var(--k2)}.c3{fill:var(--k3)}" \
	".c4{fill:var(--k4)}.c5{fill:var(--k5)}.c6{fill:var(--k6)}\n" \
	".h0,.h1,.h2,.h3,.h4,.h5,.h6{fill:var(--back);stroke-width:2}\n" \
	".s0,.h0{stroke:var(--k0)}.s1,.h1{stroke:var(--k1)}.s2,.h2{stroke:var(--k2)}" \
	".s3,.h3{stroke:var(--k3)}.s4,.h4{stroke:var(--k4)}.s5,.h5{stroke:var(--k5)}" \
	".s6,.h6{stroke:var(--k6)}\n" \
	".b0{background:var(--k0)}.b1{background:var(--k1)}.b2{background:var(--k2)}" \
	".b3{background:var(--k3)}.b4{background:var(--k4)}.b5{background:var(--k5)}" \
	".b6{background:var(--k6)}\n" \
	"details{margin:.5rem 0}summary{cursor:pointer}\n" \
	"@media(max-width:600px){body{padding:.6rem;font-size:14px}" \
	"table{font-size:12px}th,td{padding:.25rem .4rem}" \
	".wide{display:none}}\n" \
	"</style></head><body>\n"

/* Sorts by data-v where a cell has one, missing last, else by text. */
#define PAGE_END \
	"<script>\n" \
	"document.querySelectorAll('table.sortable').forEach(table=>{\n" \
	" table.querySelectorAll('th').forEach((th,column)=>{\n" \
	"  th.addEventListener('click',()=>{\n" \
	"   const up=th.getAttribute('aria-sort')!=='ascending',body=table.tBodies[0];\n" \
	"   const key=row=>{const cell=row.cells[column],v=cell.dataset.v;\n" \
	"    return v===undefined?cell.textContent:v===''?null:Number(v);};\n" \
	"   const rows=[...body.rows].sort((a,b)=>{const x=key(a),y=key(b);\n" \
	"    if(x===null||y===null)return (x===null)-(y===null);\n" \
	"    const order=typeof x==='number'?x-y:x.localeCompare(y,'en',{numeric:true});\n" \
	"    return up?order:-order;});\n" \
	"   table.querySelectorAll('th').forEach(t=>t.removeAttribute('aria-sort'));\n" \
	"   th.setAttribute('aria-sort',up?'ascending':'descending');\n" \
	"   body.append(...rows);\n" \
	"  });\n" \
	" });\n" \
	"});\n" \
	"</script></body></html>\n"

#endif
