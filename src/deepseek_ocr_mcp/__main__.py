"""`python -m deepseek_ocr_mcp` is `deepseek-ocr-mcp`."""

from .cli.main import main

if __name__ == "__main__":
    main()
