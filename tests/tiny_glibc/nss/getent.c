/* Never run, and it needs nothing: in some tests another C library takes the place of the tree's.  */
void
_start (void)
{
  for (;;)
    ;
}
