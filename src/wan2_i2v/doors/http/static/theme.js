/* Sets the theme before the page is painted, so that nothing flashes. A classic script: modules run too late. */
(() => {
  try {
    const chosen = localStorage.getItem("wan2-i2v.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (error) {
    // Storage is blocked by the browser's settings: the system's theme is used.
    console.info("no storage:", error.name);
  }
})();
