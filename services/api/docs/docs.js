// Shows /openapi.json. Everything is put in as text, never as HTML.
"use strict";

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function resolve(api, schema) {
  if (!schema || !schema.$ref) return schema;
  return schema.$ref.split("/").slice(1).reduce((at, part) => at && at[part], api);
}

function typeName(api, schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.oneOf) return schema.oneOf.map((one) => typeName(api, one)).join(" or ");
  if (schema.type === "array") return `list of ${typeName(api, schema.items)}`;
  return [].concat(schema.type || "any").join(" or ");
}

function fields(api, schema) {
  const found = resolve(api, schema);
  const parts = found && found.allOf ? found.allOf.map((one) => resolve(api, one)) : [found];
  const rows = parts.flatMap((part) => Object.entries((part && part.properties) || {}));
  if (!rows.length) return null;
  const body = rows.map(([name, field]) => element("tr", {},
    element("td", {}, element("code", { textContent: name })),
    element("td", { textContent: typeName(api, field) }),
    element("td", { textContent: field.description || "" })));
  return element("table", {}, element("tbody", {}, ...body));
}

function answers(api, operation) {
  return Object.entries(operation.responses).map(([status, response]) => {
    const [kind, content] = Object.entries(response.content || {})[0] || ["", {}];
    const isError = Number(status) >= 400;
    return element("details", {},
      element("summary", { textContent: `${status} ${response.description || ""} ${kind}` }),
      element("div", { className: "inside" },
        element("p", { textContent: typeName(api, content.schema) }), isError ? null : fields(api, content.schema)));
  });
}

async function send(method, url, headers, body, shown) {
  shown.textContent = "…";
  const token = document.getElementById("token").value;
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const response = await fetch(url, { method, headers, body });
    const kind = response.headers.get("content-type") || "";
    if (kind.startsWith("text/event-stream")) {
      await response.body.cancel();
      shown.textContent = `${response.status}\n\nThe stream is open; use curl -N to follow it.`;
      return;
    }
    const text = await response.text();
    const pretty = kind.includes("json") ? JSON.stringify(JSON.parse(text), null, 2) : text;
    shown.textContent = `${response.status} ${response.statusText}\n\n${pretty}`;
  } catch (error) {
    shown.textContent = `No answer: ${error.message}`;
  }
}

function form(path, method, operation) {
  const inputs = (operation.parameters || []).map((parameter) => {
    const input = element("input", { required: Boolean(parameter.required), placeholder: String(parameter.example ?? parameter.schema?.example ?? "") });
    return { parameter, input };
  });
  const area = operation.requestBody ? element("textarea", { spellcheck: false, value: "{}" }) : null;
  const shown = element("pre", { hidden: true });
  const rows = inputs.map(({ parameter, input }) => element("label", {},
    `${parameter.name} (${parameter.in}${parameter.required ? ", needed" : ""}) `, input,
    element("span", { className: "note", textContent: ` ${parameter.description || ""}` })));
  const made = element("form", {}, ...rows, area ? element("label", {}, "Body ", area) : null,
    element("button", { type: "submit", textContent: "Send" }), shown);
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value && parameter.in === "query") query.append(parameter.name, input.value);
      else if (input.value) headers[parameter.name] = input.value;
    }
    if (area) headers["Content-Type"] = "application/json";
    shown.hidden = false;
    send(method.toUpperCase(), query.size ? `${url}?${query}` : url, headers, area ? area.value : undefined, shown);
  });
  return made;
}

function operationView(api, path, method, operation) {
  return element("details", {},
    element("summary", {}, element("span", { className: "method", textContent: method.toUpperCase() }),
      element("code", { textContent: path }), element("div", { textContent: operation.summary || "" })),
    element("div", { className: "inside" },
      operation.description ? element("p", { textContent: operation.description }) : null,
      form(path, method, operation), element("h3", { textContent: "Answers" }), ...answers(api, operation)));
}

async function show() {
  const main = document.getElementById("api");
  try {
    const api = await (await fetch("/openapi.json")).json();
    main.replaceChildren(element("p", { textContent: api.info.description }));
    for (const tag of api.tags) {
      main.append(element("h2", { textContent: `${tag.name}: ${tag.description}` }));
      for (const [path, item] of Object.entries(api.paths)) {
        for (const method of ["get", "post"]) {
          if (item[method] && item[method].tags.includes(tag.name)) main.append(operationView(api, path, method, item[method]));
        }
      }
    }
  } catch (error) {
    main.replaceChildren(element("p", { textContent: `openapi.json cannot be read: ${error.message}` }));
  }
}

show();
