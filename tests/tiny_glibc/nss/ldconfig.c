/* Never run: packages are unpacked, not installed, where this is used.  */
void
_start (void)
{
  for (;;)
    ;
}
