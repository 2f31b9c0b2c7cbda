/* What this browser remembers: the draft, what is yet to be sent, the theme. Comes in and goes out: plain data.
   A browser that refuses storage works all the same; it only forgets. */

const PREFIX = "wan2-i2v.";

export function recall(name, fallback) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? fallback : JSON.parse(text);
  } catch (error) {
    console.info("not recalled:", name, error.name);
    return fallback;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch (error) {
    console.info("not remembered:", name, error.name);
  }
}

/** The theme is stored as bare text, because `theme.js` reads it before anything else runs. */
export function rememberTheme(theme) {
  try {
    if (theme === "auto") localStorage.removeItem(PREFIX + "theme");
    else localStorage.setItem(PREFIX + "theme", theme);
  } catch (error) {
    console.info("not remembered: theme", error.name);
  }
}
