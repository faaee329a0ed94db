"""Whether text can be read on its background, in the colours that a browser has computed."""

CONTRAST = """selector => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => {
    const [r, g, b] = parts(color).map(x => (x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0.5) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll(selector)].slice(0, 400).filter(one => one.checkVisibility()).map(one => {
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 80)];
  }).sort((x, y) => x[0] - y[0])[0];
}"""
"""In the page: the lowest contrast of the elements of a selector, and that element; 4.5 is the least of WCAG AA."""


def assert_legible(page, selector):
    """Each element of the selector has a contrast of 4.5 or more."""
    lowest, element = page.evaluate(CONTRAST, selector)
    assert lowest >= 4.5, f"contrast {lowest:.2f} of {element}"
