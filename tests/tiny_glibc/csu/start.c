/* Stands for the start files.  */
extern int main (void);

int
start_file (void)
{
  return main ();
}
