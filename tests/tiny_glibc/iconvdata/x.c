int
gconv (void)
{
  return 0;
}
