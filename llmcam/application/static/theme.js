// Runs before the first paint, so that a chosen theme never flashes.
(() => {
  let theme = null;
  try { theme = localStorage.getItem("llmcam-theme"); } catch { /* storage may be off */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
