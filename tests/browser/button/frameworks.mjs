/* One bundle for each framework, of an app that shows a button and moves on: `node frameworks.mjs FOLDER`. */
import { build } from "esbuild";
import { compile } from "svelte/compiler";

const NEXT = `"https://example.org/" + settings.name + (turned ? "/second" : "/first")`;
const SVELTE = `<script>
  let { settings } = $props();
  let turned = $state(false);
  const thing = $derived(${NEXT});
</script>
<flattr-button creator="bob" {thing} token={settings.token} counters={settings.counters} label="A thing"></flattr-button>
<button id="next" onclick={() => (turned = true)}>next</button>`;
const APPS = {
  react: `import { createElement, useState } from "react";
    import { createRoot } from "react-dom/client";
    function App({ settings }) {
      const [turned, turn] = useState(false);
      return createElement("div", null,
        createElement("flattr-button", { creator: "bob", thing: ${NEXT}, token: settings.token, counters: settings.counters, label: "A thing" }),
        createElement("button", { id: "next", onClick: () => turn(true) }, "next"));
    }
    createRoot(document.querySelector("#app")).render(createElement(App, { settings: window.settings }));`,
  vue: `import { createApp, h, ref } from "vue";
    const { settings } = window;
    createApp({
      setup() {
        const now = ref(false);
        return () => {
          const turned = now.value;
          return h("div", [
            h("flattr-button", { creator: "bob", thing: ${NEXT}, token: settings.token, counters: settings.counters, label: "A thing" }),
            h("button", { id: "next", onClick: () => (now.value = true) }, "next"),
          ]);
        };
      },
    }).mount("#app");`,
  svelte: `import { mount } from "svelte";
    import App from "app.svelte";
    mount(App, { target: document.querySelector("#app"), props: { settings: window.settings } });`,
};
const svelte = {
  name: "svelte",
  setup(within) {
    within.onResolve({ filter: /^app\.svelte$/ }, () => ({ path: "app.svelte", namespace: "app" }));
    within.onLoad({ filter: /./, namespace: "app" }, () => ({
      contents: compile(SVELTE, { generate: "client" }).js.code, resolveDir: import.meta.dirname,
    }));
  },
};

for (const [name, contents] of Object.entries(APPS)) {
  await build({
    stdin: { contents, resolveDir: import.meta.dirname },
    outfile: `${process.argv[2]}/${name}.js`,
    bundle: true,
    format: "iife",
    logLevel: "error",
    plugins: [svelte],
    conditions: ["browser"],
    define: {
      "process.env.NODE_ENV": '"production"', __VUE_OPTIONS_API__: "true", __VUE_PROD_DEVTOOLS__: "false",
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
    },
  });
}
