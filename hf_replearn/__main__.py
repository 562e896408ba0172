from hf_replearn.cli import main

main()
