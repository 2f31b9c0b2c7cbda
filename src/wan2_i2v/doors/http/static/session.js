/* What the whole page shares: the server's facts, whether it is reached, sign-in, theme, and what is said aloud. */

import { api, whenUnauthorized } from "./api.js";
import { rememberTheme } from "./storage.js";

const NEXT_THEME = { auto: "light", light: "dark", dark: "auto" };
const TOAST_MS = 6000;

export function session() {
  return {
    info: null,
    models: [],
    presets: [],
    schema: null,
    ready: false,
    online: true,
    broken: "",
    theme: "auto",
    token: "",
    tokenError: "",
    wanted: false,
    toast: "",
    spoken: "",

    init() {
      this.theme = document.documentElement.dataset.theme || "auto";
      whenUnauthorized(() => this.ask());
    },

    async load() {
      try {
        this.info = await api.info();
        const [schema, models, presets] = await Promise.all([api.schema(), api.models(), api.presets()]);
        this.schema = schema;
        this.models = models.models;
        this.presets = presets.presets;
        this.online = true;
        this.broken = "";
        this.ready = true;
      } catch (error) {
        if (error.lost) this.online = false;
        else if (error.status !== 401) this.broken = error.message;
      }
      return this.ready;
    },

    /** Ask for the token, once, however many requests were refused. */
    ask() {
      if (this.wanted) return;
      this.wanted = true;
      this.tokenError = "";
      document.getElementById("sign-in").showModal();
    },

    async signIn() {
      try {
        await api.signIn(this.token.trim());
      } catch (error) {
        this.tokenError = error.message;
        document.getElementById("token").focus();
        return;
      }
      this.token = "";
      location.reload();
    },

    async signOut() {
      await api.signOut();
      location.reload();
    },

    get model() {
      return this.models.find((one) => one.name === (this.info && this.info.model)) || null;
    },

    get deviceLine() {
      if (!this.info) return "";
      const { model, device } = this.info;
      return [model, device.label || device.name].filter(Boolean).join(" on ");
    },

    get themeLabel() {
      return { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[this.theme];
    },

    nextTheme() {
      this.theme = NEXT_THEME[this.theme];
      if (this.theme === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = this.theme;
      rememberTheme(this.theme);
      this.say(this.themeLabel);
    },

    /** Said to screen readers; nothing is shown. */
    say(text) {
      this.spoken = "";
      requestAnimationFrame(() => (this.spoken = text));
    },

    /** Shown for a moment and said. */
    tell(text) {
      this.toast = text;
      clearTimeout(this.toasting);
      this.toasting = setTimeout(() => (this.toast = ""), TOAST_MS);
    },
  };
}
