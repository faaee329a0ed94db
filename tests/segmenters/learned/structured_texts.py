"""Code and a table whose sentences are known."""

PYTHON = '''"""Doc. Two sentences.

More: of it.
"""
import os


# A comment. Of two sentences.
def f(a,
      b=(1,
         2)):
    # inside
    text = "a; b # c"  # after
    return [
        # in brackets
        a + \\
        b,
    ]
'''

RUST = """// Adds. And more.
use std::fmt;

fn add(a: i32,
       b: i32) -> i32 {
    let c = 'x'; /* a
    block */
    a + b
}
"""

TABLE = 'id,said\n1,"Hello.\nYou, there. ""Ok""\n"\n2,"Bye, now"\n3,x\n'
